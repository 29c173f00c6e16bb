package main

import (
	"context"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func leases(p *peer) {
	grant, err := p.client.Grant(p.ctx, 300)
	p.ok(err)
	equal(p, "ttl", grant.TTL, 300)
	p.that(grant.ID > 0, "lease id %d", grant.ID)
	for _, name := range []string{"lease/a", "lease/b"} {
		_, err = p.client.Put(p.ctx, p.key(name), "x", clientv3.WithLease(grant.ID))
		p.ok(err)
	}
	got, err := p.client.Get(p.ctx, p.key("lease/a"))
	p.ok(err)
	equal(p, "lease of a key", got.Kvs[0].Lease, int64(grant.ID))
	txn, err := p.client.Txn(p.ctx).If(
		clientv3.Compare(clientv3.LeaseValue(p.key("lease/a")), "=", grant.ID)).Commit()
	p.ok(err)
	equal(p, "lease compare", txn.Succeeded, true)
	left, err := p.client.TimeToLive(p.ctx, grant.ID, clientv3.WithAttachedKeys())
	p.ok(err)
	equal(p, "granted ttl", left.GrantedTTL, 300)
	p.that(left.TTL > 290 && left.TTL <= 300, "ttl %d", left.TTL)
	equal(p, "attached keys", len(left.Keys), 2)
	// A put without the lease takes the key away from it.
	_, err = p.client.Put(p.ctx, p.key("lease/b"), "y")
	p.ok(err)
	left, err = p.client.TimeToLive(p.ctx, grant.ID, clientv3.WithAttachedKeys())
	p.ok(err)
	equal(p, "keys after detach", len(left.Keys), 1)
	all, err := p.client.Leases(p.ctx)
	p.ok(err)
	found := false
	for _, lease := range all.Leases {
		found = found || lease.ID == grant.ID
	}
	p.that(found, "lease is not in the list")
	revoke, err := p.client.Revoke(p.ctx, grant.ID)
	p.ok(err)
	got, err = p.client.Get(p.ctx, p.key("lease/"), clientv3.WithPrefix())
	p.ok(err)
	equal(p, "keys after revoke", keys(got.Kvs), "b")
	equal(p, "revoke took a revision", revoke.Header.Revision, got.Header.Revision)
	_, err = p.client.Revoke(p.ctx, grant.ID)
	p.is(err, rpctypes.ErrLeaseNotFound)
	left, err = p.client.TimeToLive(p.ctx, grant.ID)
	p.ok(err)
	equal(p, "ttl of an unknown lease", left.TTL, -1)
	_, err = p.client.KeepAliveOnce(p.ctx, grant.ID)
	p.is(err, rpctypes.ErrLeaseNotFound)
	_, err = p.client.Grant(p.ctx, 9_000_000_001)
	p.is(err, rpctypes.ErrLeaseTTLTooLarge)
	small, err := p.client.Grant(p.ctx, 1)
	p.ok(err)
	p.that(small.TTL >= 1 && small.TTL <= 2, "smallest ttl %d", small.TTL)
	_, err = p.client.Revoke(p.ctx, small.ID)
	p.ok(err)
}

func leaseKeepAlive(p *peer) {
	ctx, cancel := context.WithCancel(p.ctx)
	grant, err := p.client.Grant(p.ctx, 2)
	p.ok(err)
	_, err = p.client.Put(p.ctx, p.key("alive"), "x", clientv3.WithLease(grant.ID))
	p.ok(err)
	beats, err := p.client.KeepAlive(ctx, grant.ID)
	p.ok(err)
	// Two beats over the channel and one by hand; then the lease has outlived its time.
	begin := time.Now()
	for time.Since(begin) < 3*time.Second {
		select {
		case beat, open := <-beats:
			p.that(open, "keepalive channel closed")
			equal(p, "ttl of a beat", beat.TTL, grant.TTL)
			equal(p, "id of a beat", beat.ID, grant.ID)
		case <-time.After(3 * time.Second):
			p.fail("no beat in 3 s")
		}
	}
	once, err := p.client.KeepAliveOnce(p.ctx, grant.ID)
	p.ok(err)
	equal(p, "ttl once", once.TTL, grant.TTL)
	got, err := p.client.Get(p.ctx, p.key("alive"))
	p.ok(err)
	equal(p, "key of a kept lease", len(got.Kvs), 1)
	cancel()
	_, err = p.client.Revoke(p.ctx, grant.ID)
	p.ok(err)
}

func leaseExpiry(p *peer) {
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	watch := p.client.Watch(ctx, p.key("expire"), clientv3.WithPrefix(), clientv3.WithPrevKV(),
		clientv3.WithCreatedNotify())
	p.that(p.next(watch).Created, "no creation")
	grant, err := p.client.Grant(p.ctx, 2)
	p.ok(err)
	granted := time.Now()
	_, err = p.client.Txn(p.ctx).Then(
		clientv3.OpPut(p.key("expire/1"), "one", clientv3.WithLease(grant.ID)),
		clientv3.OpPut(p.key("expire/2"), "two", clientv3.WithLease(grant.ID))).Commit()
	p.ok(err)
	p.sees(watch, "PUT 1=one@1", "PUT 2=two@1", "DELETE 1 was one", "DELETE 2 was two")
	took := time.Since(granted)
	p.that(took > 1500*time.Millisecond && took < 8*time.Second, "expired after %v", took)
	left, err := p.client.TimeToLive(p.ctx, grant.ID)
	p.ok(err)
	equal(p, "ttl after expiry", left.TTL, -1)
}
