// Gopeer drives a running server with etcd's own Go client and checks every answer.
//
//	usage: gopeer HOST:PORT
//
// Exit 0: all answers right. 1: one was wrong, named on stderr. Keys live under a prefix of this
// run; the last steps compact the store.
package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// A peer is one run against one server: its client, its key prefix, and the name of the step that
// runs, for the message of a failure.
type peer struct {
	ctx    context.Context
	client *clientv3.Client
	prefix string
	step   string
	checks int
}

func (p *peer) key(name string) string { return p.prefix + name }

func (p *peer) fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "FAILED: %s: %s\n", p.step, fmt.Sprintf(format, args...))
	os.Exit(1)
}

func (p *peer) ok(err error) {
	p.checks++
	if err != nil {
		p.fail("%v", err)
	}
}

func (p *peer) that(holds bool, format string, args ...any) {
	p.checks++
	if !holds {
		p.fail(format, args...)
	}
}

func equal[T comparable](p *peer, what string, got, want T) {
	p.checks++
	if got != want {
		p.fail("%s: got %v, expected %v", what, got, want)
	}
}

// is checks an error for identity: clientv3 turns code and text back into its error values, so a
// wrong code or a wrong letter in the text shows here.
func (p *peer) is(err, want error) {
	p.checks++
	if err == nil || err.Error() != want.Error() {
		p.fail("got error %v, expected %v", err, want)
	}
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: gopeer HOST:PORT")
		os.Exit(2)
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{os.Args[1]},
		DialTimeout: 5 * time.Second,
		Logger:      zap.NewNop(),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "FAILED: connect:", err)
		os.Exit(1)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	p := &peer{ctx: ctx, client: client}
	p.prefix = fmt.Sprintf("/gopeer-%d-%d/", os.Getpid(), time.Now().UnixNano())
	steps := []struct {
		name string
		run  func(*peer)
	}{
		{"put and get", putAndGet},
		{"range options", rangeOptions},
		{"range stream", rangeStream},
		{"delete", deletes},
		{"txn", txns},
		{"nested txn", nestedTxn},
		{"txn limits", txnLimits},
		{"kv errors", kvErrors},
		{"watch", watches},
		{"watch progress", watchProgress},
		{"watch fragments", watchFragments},
		{"watch filters and ids", watchFilters},
		{"require leader", requireLeader},
		{"lease", leases},
		{"lease keepalive channel", leaseKeepAlive},
		{"lease expiry", leaseExpiry},
		{"mutex", mutexes},
		{"election", elections},
		{"stm", transactionalMemory},
		{"kubernetes client", kubernetesClient},
		{"members and maintenance", maintenance},
		{"snapshot", snapshots},
		{"compaction", compaction},
	}
	for _, step := range steps {
		if without(step.name) {
			continue
		}
		p.step = step.name
		step.run(p)
	}
	p.step = "clean up"
	_, err = client.Delete(ctx, p.prefix, clientv3.WithPrefix())
	p.ok(err)
	fmt.Printf("gopeer clientv3 3.7: %d answers right\n", p.checks)
}

// without tells whether the server under test does not serve a step yet: WITHOUT=snapshot,locks.
func without(step string) bool {
	return slices.Contains(strings.Split(os.Getenv("WITHOUT"), ","), step)
}
