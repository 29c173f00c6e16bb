//go:build tools

// Package tools pins the real etcd that ringbolt is compared with: the three programs are built
// from the module proxy at the versions of go.mod, never from a checkout.
package tools

import (
	_ "go.etcd.io/etcd/etcdctl/v3"
	_ "go.etcd.io/etcd/etcdutl/v3"
	_ "go.etcd.io/etcd/server/v3"
)
