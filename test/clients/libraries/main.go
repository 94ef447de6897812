// Command oci-libraries does with oras-go and notation-go what the command lines of their projects do with them. The
// registry's tests run it: the libraries are what Helm, notation, Flux and oras itself talk to a registry with.
//
// What it found goes to standard output, warnings of the registry to standard error.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
)

// A command reads its flags and works on what is left.
type command func(ctx context.Context, args []string) error

var commands = map[string]command{
	"oras login":      orasLogin,
	"oras logout":     orasLogout,
	"oras push":       orasPush,
	"oras attach":     orasAttach,
	"oras discover":   orasDiscover,
	"oras pull":       orasPull,
	"oras copy":       orasCopy,
	"oras resolve":    orasResolve,
	"oras tag":        orasTag,
	"oras tags":       orasTags,
	"oras delete":     orasDelete,
	"oras repos":      orasRepositories,
	"oras blob-push":  orasBlobPush,
	"oras blob-fetch": orasBlobFetch,
	"oras blob-seek":  orasBlobSeek,
	"notation key":    notationKey,
	"notation sign":   notationSign,
	"notation verify": notationVerify,
	"notation list":   notationList,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) >= 2 {
		if known, ok := commands[args[0]+" "+args[1]]; ok {
			return known(ctx, args[2:])
		}
	}
	names := make([]string, 0, len(commands))
	for name := range commands {
		names = append(names, name)
	}
	slices.Sort(names)
	return fmt.Errorf("one of these is wanted: %s", strings.Join(names, ", "))
}

// parse reads flags and insists on a number of further arguments.
func parse(flags *flag.FlagSet, args []string, wanted int) ([]string, error) {
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() < wanted {
		return nil, errors.New("too few arguments")
	}
	return flags.Args(), nil
}

func printJSON(value any) error {
	return json.NewEncoder(os.Stdout).Encode(value)
}
