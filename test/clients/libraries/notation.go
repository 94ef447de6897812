package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"

	_ "github.com/notaryproject/notation-core-go/signature/cose"
	"github.com/notaryproject/notation-core-go/signature/jws"
	"github.com/notaryproject/notation-go"
	"github.com/notaryproject/notation-go/registry"
	"github.com/notaryproject/notation-go/signer"
	"github.com/notaryproject/notation-go/verifier"
	"github.com/notaryproject/notation-go/verifier/trustpolicy"
	"github.com/notaryproject/notation-go/verifier/truststore"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	keyFile         = "key.pem"
	certificateFile = "certificate.pem"
)

// notationKey makes a key and a self-signed certificate for signing code, good for a day, in a folder.
func notationKey(_ context.Context, args []string) error {
	rest, err := parse(flag.NewFlagSet("key", flag.ContinueOnError), args, 1)
	if err != nil {
		return err
	}
	key, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		return err
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: "registry test", Organization: []string{"Test"}, Country: []string{"XX"}, Province: []string{"Test"}},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
	certificate, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		return err
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(rest[0], 0o700); err != nil {
		return err
	}
	if err := writePEM(filepath.Join(rest[0], keyFile), "PRIVATE KEY", encoded); err != nil {
		return err
	}
	return writePEM(filepath.Join(rest[0], certificateFile), "CERTIFICATE", certificate)
}

func notationSign(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("sign", flag.ContinueOnError)
	keys := flags.String("key", "", "folder of the key")
	mediaType := flags.String("media-type", jws.MediaTypeEnvelope, "of the signature envelope")
	rest, err := parse(flags, args, 1)
	if err != nil {
		return err
	}
	repository, err := openRepository(rest[0])
	if err != nil {
		return err
	}
	encoded, err := readPEM(filepath.Join(*keys, keyFile))
	if err != nil {
		return err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(encoded)
	if err != nil {
		return err
	}
	key, ok := parsed.(crypto.PrivateKey)
	if !ok {
		return errors.New("not a private key")
	}
	certificate, err := readCertificate(*keys)
	if err != nil {
		return err
	}
	own, err := signer.NewGenericSigner(key, []*x509.Certificate{certificate})
	if err != nil {
		return err
	}
	signed, err := notation.Sign(ctx, own, registry.NewRepository(repository), notation.SignOptions{
		SignerSignOptions: notation.SignerSignOptions{SignatureMediaType: *mediaType},
		ArtifactReference: rest[0],
	})
	if err != nil {
		return err
	}
	return printJSON(signed)
}

// trusted is a trust store of one certificate.
type trusted struct{ certificate *x509.Certificate }

func (store trusted) GetCertificates(context.Context, truststore.Type, string) ([]*x509.Certificate, error) {
	return []*x509.Certificate{store.certificate}, nil
}

func notationVerify(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("verify", flag.ContinueOnError)
	keys := flags.String("key", "", "folder of the trusted certificate")
	rest, err := parse(flags, args, 1)
	if err != nil {
		return err
	}
	repository, err := openRepository(rest[0])
	if err != nil {
		return err
	}
	certificate, err := readCertificate(*keys)
	if err != nil {
		return err
	}
	policy := trustpolicy.Document{
		Version: "1.0",
		TrustPolicies: []trustpolicy.TrustPolicy{{
			Name:           "test",
			RegistryScopes: []string{"*"},
			SignatureVerification: trustpolicy.SignatureVerification{
				VerificationLevel: trustpolicy.LevelStrict.Name,
				// The certificate names no service that could be asked.
				Override: map[trustpolicy.ValidationType]trustpolicy.ValidationAction{
					trustpolicy.TypeRevocation: trustpolicy.ActionSkip,
				},
			},
			TrustStores:       []string{"ca:test"},
			TrustedIdentities: []string{"*"},
		}},
	}
	own, err := verifier.New(&policy, trusted{certificate}, nil)
	if err != nil {
		return err
	}
	verified, _, err := notation.Verify(ctx, own, registry.NewRepository(repository), notation.VerifyOptions{
		ArtifactReference:    rest[0],
		MaxSignatureAttempts: 50,
	})
	if err != nil {
		return err
	}
	return printJSON(verified)
}

func notationList(ctx context.Context, args []string) error {
	rest, err := parse(flag.NewFlagSet("list", flag.ContinueOnError), args, 1)
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
	signatures := []ocispec.Descriptor{}
	err = registry.NewRepository(repository).ListSignatures(ctx, subject, func(page []ocispec.Descriptor) error {
		signatures = append(signatures, page...)
		return nil
	})
	if err != nil {
		return err
	}
	return printJSON(signatures)
}

func readCertificate(folder string) (*x509.Certificate, error) {
	encoded, err := readPEM(filepath.Join(folder, certificateFile))
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(encoded)
}

func writePEM(path, kind string, bytes []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes}), 0o600)
}

func readPEM(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM", path)
	}
	return block.Bytes, nil
}
