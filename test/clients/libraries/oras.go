package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/content/file"
	"oras.land/oras-go/v2/content/oci"
	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/retry"
)

// openStore opens the file where docker keeps its logins, as oras does.
func openStore() (credentials.Store, error) {
	return credentials.NewStoreFromDocker(credentials.StoreOptions{AllowPlaintextPut: true})
}

// newClient makes a client that is logged in where its user is.
func newClient() (*auth.Client, error) {
	store, err := openStore()
	if err != nil {
		return nil, err
	}
	return &auth.Client{
		Client:     retry.DefaultClient,
		Cache:      auth.NewCache(),
		Credential: credentials.Credential(store),
	}, nil
}

// orasLogin reads the password from standard input.
func orasLogin(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("login", flag.ContinueOnError)
	username := flags.String("username", "", "")
	rest, err := parse(flags, args, 1)
	if err != nil {
		return err
	}
	password, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	host, err := remote.NewRegistry(rest[0])
	if err != nil {
		return err
	}
	host.PlainHTTP = true
	store, err := openStore()
	if err != nil {
		return err
	}
	return credentials.Login(ctx, store, host, auth.Credential{Username: *username, Password: string(password)})
}

func orasLogout(ctx context.Context, args []string) error {
	rest, err := parse(flag.NewFlagSet("logout", flag.ContinueOnError), args, 1)
	if err != nil {
		return err
	}
	store, err := openStore()
	if err != nil {
		return err
	}
	return credentials.Logout(ctx, store, rest[0])
}

// openRepository opens `host/name`, with or without a tag or digest, over plain http.
func openRepository(reference string) (*remote.Repository, error) {
	repository, err := remote.NewRepository(reference)
	if err != nil {
		return nil, err
	}
	client, err := newClient()
	if err != nil {
		return nil, err
	}
	repository.Client = client
	repository.PlainHTTP = true
	repository.HandleWarning = func(warning remote.Warning) {
		fmt.Fprintln(os.Stderr, "Warning:", warning.Text)
	}
	return repository, nil
}

// A place is a repository or, as `oci:folder:tag`, an image layout, with the reference that was named in it.
func openPlace(ctx context.Context, place string) (oras.GraphTarget, string, error) {
	layout, ok := strings.CutPrefix(place, "oci:")
	if !ok {
		repository, err := openRepository(place)
		if err != nil {
			return nil, "", err
		}
		return repository, repository.Reference.Reference, nil
	}
	folder, tag, _ := strings.Cut(layout, ":")
	store, err := oci.NewWithContext(ctx, folder)
	return store, tag, err
}

// addFiles adds files, named `path:mediaType`, to a store.
func addFiles(ctx context.Context, store *file.Store, files []string) ([]ocispec.Descriptor, error) {
	var layers []ocispec.Descriptor
	for _, each := range files {
		path, mediaType, _ := strings.Cut(each, ":")
		layer, err := store.Add(ctx, path, mediaType, "")
		if err != nil {
			return nil, err
		}
		layers = append(layers, layer)
	}
	return layers, nil
}

// pack makes an artifact of files and copies it to the repository, under its reference if it has one.
func pack(ctx context.Context, reference, artifactType string, subject *ocispec.Descriptor, files []string) error {
	repository, err := openRepository(reference)
	if err != nil {
		return err
	}
	store, err := file.New(".")
	if err != nil {
		return err
	}
	defer store.Close()
	layers, err := addFiles(ctx, store, files)
	if err != nil {
		return err
	}
	options := oras.PackManifestOptions{Layers: layers, Subject: subject}
	manifest, err := oras.PackManifest(ctx, store, oras.PackManifestVersion1_1, artifactType, options)
	if err != nil {
		return err
	}
	if subject != nil {
		err = oras.CopyGraph(ctx, store, repository, manifest, oras.DefaultCopyGraphOptions)
	} else {
		tag := repository.Reference.Reference
		if err = store.Tag(ctx, manifest, tag); err != nil {
			return err
		}
		_, err = oras.Copy(ctx, store, tag, repository, tag, oras.DefaultCopyOptions)
	}
	if err != nil {
		return err
	}
	return printJSON(manifest)
}

func orasPush(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("push", flag.ContinueOnError)
	artifactType := flags.String("artifact-type", "application/vnd.example", "")
	rest, err := parse(flags, args, 2)
	if err != nil {
		return err
	}
	return pack(ctx, rest[0], *artifactType, nil, rest[1:])
}

func orasAttach(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("attach", flag.ContinueOnError)
	artifactType := flags.String("artifact-type", "application/vnd.example", "")
	rest, err := parse(flags, args, 2)
	if err != nil {
		return err
	}
	subject, err := resolve(ctx, rest[0])
	if err != nil {
		return err
	}
	return pack(ctx, rest[0], *artifactType, &subject, rest[1:])
}

// orasDiscover prints the referrers of a subject: `-recursive` those of its referrers too.
func orasDiscover(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("discover", flag.ContinueOnError)
	artifactType := flags.String("artifact-type", "", "")
	recursive := flags.Bool("recursive", false, "")
	rest, err := parse(flags, args, 1)
	if err != nil {
		return err
	}
	repository, err := openRepository(rest[0])
	if err != nil {
		return err
	}
	subject, err := repository.Resolve(ctx, repository.Reference.Reference)
	if err != nil {
		return err
	}
	found := []ocispec.Descriptor{}
	open := []ocispec.Descriptor{subject}
	for len(open) > 0 {
		referrers, err := registry.Referrers(ctx, repository, open[0], *artifactType)
		if err != nil {
			return err
		}
		found = append(found, referrers...)
		open = open[1:]
		if *recursive {
			open = append(open, referrers...)
		}
	}
	return printJSON(found)
}

func orasPull(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("pull", flag.ContinueOnError)
	output := flags.String("output", ".", "")
	rest, err := parse(flags, args, 1)
	if err != nil {
		return err
	}
	repository, err := openRepository(rest[0])
	if err != nil {
		return err
	}
	store, err := file.New(*output)
	if err != nil {
		return err
	}
	defer store.Close()
	manifest, err := oras.Copy(ctx, repository, repository.Reference.Reference, store, "", oras.DefaultCopyOptions)
	if err != nil {
		return err
	}
	return printJSON(manifest)
}

// orasCopy copies from place to place: `-recursive` the referrers too. Within one registry, or where `-mount-from` names
// a repository of it, blobs are mounted; the digests of those that were go to standard output.
func orasCopy(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("copy", flag.ContinueOnError)
	recursive := flags.Bool("recursive", false, "")
	mountFrom := flags.String("mount-from", "", "")
	rest, err := parse(flags, args, 2)
	if err != nil {
		return err
	}
	source, from, err := openPlace(ctx, rest[0])
	if err != nil {
		return err
	}
	target, to, err := openPlace(ctx, rest[1])
	if err != nil {
		return err
	}
	graph := oras.DefaultCopyGraphOptions
	sourceRepository, isRemote := source.(*remote.Repository)
	targetRepository, toRemote := target.(*remote.Repository)
	if isRemote && toRemote && sourceRepository.Reference.Registry == targetRepository.Reference.Registry {
		*mountFrom = sourceRepository.Reference.Repository
	}
	if *mountFrom != "" {
		graph.MountFrom = func(context.Context, ocispec.Descriptor) ([]string, error) {
			return []string{*mountFrom}, nil
		}
		graph.OnMounted = func(_ context.Context, blob ocispec.Descriptor) error {
			fmt.Println(blob.Digest)
			return nil
		}
	}
	if *recursive {
		options := oras.ExtendedCopyOptions{ExtendedCopyGraphOptions: oras.ExtendedCopyGraphOptions{CopyGraphOptions: graph}}
		_, err = oras.ExtendedCopy(ctx, source, from, target, to, options)
		return err
	}
	_, err = oras.Copy(ctx, source, from, target, to, oras.CopyOptions{CopyGraphOptions: graph})
	return err
}

func resolve(ctx context.Context, reference string) (ocispec.Descriptor, error) {
	repository, err := openRepository(reference)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return repository.Resolve(ctx, repository.Reference.Reference)
}

func orasResolve(ctx context.Context, args []string) error {
	rest, err := parse(flag.NewFlagSet("resolve", flag.ContinueOnError), args, 1)
	if err != nil {
		return err
	}
	resolved, err := resolve(ctx, rest[0])
	if err != nil {
		return err
	}
	return printJSON(resolved)
}

func orasTag(ctx context.Context, args []string) error {
	rest, err := parse(flag.NewFlagSet("tag", flag.ContinueOnError), args, 2)
	if err != nil {
		return err
	}
	repository, err := openRepository(rest[0])
	if err != nil {
		return err
	}
	_, err = oras.TagN(ctx, repository, repository.Reference.Reference, rest[1:], oras.DefaultTagNOptions)
	return err
}

// orasTags lists tags: `-page-size` asks the registry for pages of so many.
func orasTags(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("tags", flag.ContinueOnError)
	pageSize := flags.Int("page-size", 0, "")
	rest, err := parse(flags, args, 1)
	if err != nil {
		return err
	}
	repository, err := openRepository(rest[0])
	if err != nil {
		return err
	}
	repository.TagListPageSize = *pageSize
	tags, err := registry.Tags(ctx, repository)
	if err != nil {
		return err
	}
	return printJSON(tags)
}

func orasRepositories(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("repos", flag.ContinueOnError)
	pageSize := flags.Int("page-size", 0, "")
	rest, err := parse(flags, args, 1)
	if err != nil {
		return err
	}
	host, err := remote.NewRegistry(rest[0])
	if err != nil {
		return err
	}
	client, err := newClient()
	if err != nil {
		return err
	}
	host.Client = client
	host.PlainHTTP = true
	host.RepositoryListPageSize = *pageSize
	if err := host.Ping(ctx); err != nil {
		return err
	}
	names, err := registry.Repositories(ctx, host)
	if err != nil {
		return err
	}
	return printJSON(names)
}

// orasDelete deletes a manifest: `-blob` a blob, by its digest.
func orasDelete(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("delete", flag.ContinueOnError)
	blob := flags.Bool("blob", false, "")
	rest, err := parse(flags, args, 1)
	if err != nil {
		return err
	}
	repository, err := openRepository(rest[0])
	if err != nil {
		return err
	}
	var store interface {
		content.Resolver
		content.Deleter
	} = repository.Manifests()
	if *blob {
		store = repository.Blobs()
	}
	found, err := store.Resolve(ctx, repository.Reference.Reference)
	if err != nil {
		return err
	}
	return store.Delete(ctx, found)
}

func orasBlobPush(ctx context.Context, args []string) error {
	rest, err := parse(flag.NewFlagSet("blob-push", flag.ContinueOnError), args, 2)
	if err != nil {
		return err
	}
	repository, err := openRepository(rest[0])
	if err != nil {
		return err
	}
	source, err := os.Open(rest[1])
	if err != nil {
		return err
	}
	defer source.Close()
	sum, err := digest.FromReader(source)
	if err != nil {
		return err
	}
	size, err := source.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	if _, err := source.Seek(0, io.SeekStart); err != nil {
		return err
	}
	blob := ocispec.Descriptor{MediaType: "application/octet-stream", Digest: sum, Size: size}
	if err := repository.Blobs().Push(ctx, blob, source); err != nil {
		return err
	}
	return printJSON(blob)
}

func orasBlobFetch(ctx context.Context, args []string) error {
	rest, err := parse(flag.NewFlagSet("blob-fetch", flag.ContinueOnError), args, 1)
	if err != nil {
		return err
	}
	repository, err := openRepository(rest[0])
	if err != nil {
		return err
	}
	blob, reader, err := repository.Blobs().FetchReference(ctx, repository.Reference.Reference)
	if err != nil {
		return err
	}
	defer reader.Close()
	bytes, err := content.ReadAll(reader, blob)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(bytes)
	return err
}

// orasBlobSeek prints a blob from an offset to its end, which asks the registry for a range.
func orasBlobSeek(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("blob-seek", flag.ContinueOnError)
	offset := flags.Int64("offset", 0, "")
	rest, err := parse(flags, args, 1)
	if err != nil {
		return err
	}
	repository, err := openRepository(rest[0])
	if err != nil {
		return err
	}
	_, reader, err := repository.Blobs().FetchReference(ctx, repository.Reference.Reference)
	if err != nil {
		return err
	}
	defer reader.Close()
	seeker, ok := reader.(io.Seeker)
	if !ok {
		return errors.New("the registry does not say that it accepts ranges")
	}
	if _, err := seeker.Seek(*offset, io.SeekStart); err != nil {
		return err
	}
	_, err = io.Copy(os.Stdout, reader)
	return err
}
