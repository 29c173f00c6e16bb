package main

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/client/v3/kubernetes"
)

func (p *peer) session() *concurrency.Session {
	session, err := concurrency.NewSession(p.client, concurrency.WithTTL(30))
	p.ok(err)
	return session
}

func mutexes(p *peer) {
	one, two := p.session(), p.session()
	defer one.Close()
	defer two.Close()
	first := concurrency.NewMutex(one, p.key("mutex"))
	second := concurrency.NewMutex(two, p.key("mutex"))
	p.ok(first.Lock(p.ctx))
	p.is(second.TryLock(p.ctx), concurrency.ErrLocked)
	txn, err := p.client.Txn(p.ctx).If(first.IsOwner()).Commit()
	p.ok(err)
	p.that(txn.Succeeded, "holder is not the owner")
	entered := make(chan error, 1)
	go func() { entered <- second.Lock(p.ctx) }()
	select {
	case <-entered:
		p.fail("two holders")
	case <-time.After(200 * time.Millisecond):
	}
	p.ok(first.Unlock(p.ctx))
	p.ok(<-entered)
	p.ok(second.Unlock(p.ctx))
	// Eight workers count to 80 under the mutex, without a lost update.
	var group sync.WaitGroup
	failures := make(chan error, 8)
	for range 8 {
		group.Add(1)
		go func() {
			defer group.Done()
			session, err := concurrency.NewSession(p.client, concurrency.WithTTL(30))
			if err != nil {
				failures <- err
				return
			}
			defer session.Close()
			mutex := concurrency.NewMutex(session, p.key("counter-mutex"))
			for range 10 {
				if err := mutex.Lock(p.ctx); err != nil {
					failures <- err
					return
				}
				got, err := p.client.Get(p.ctx, p.key("counter"))
				value := 0
				if err == nil && len(got.Kvs) == 1 {
					value, err = strconv.Atoi(string(got.Kvs[0].Value))
				}
				if err == nil {
					_, err = p.client.Put(p.ctx, p.key("counter"), strconv.Itoa(value+1))
				}
				if err = errors.Join(err, mutex.Unlock(p.ctx)); err != nil {
					failures <- err
					return
				}
			}
		}()
	}
	group.Wait()
	close(failures)
	for err := range failures {
		p.ok(err)
	}
	got, err := p.client.Get(p.ctx, p.key("counter"))
	p.ok(err)
	equal(p, "counter", string(got.Kvs[0].Value), "80")
}

func elections(p *peer) {
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	one, two := p.session(), p.session()
	defer one.Close()
	defer two.Close()
	first := concurrency.NewElection(one, p.key("election"))
	second := concurrency.NewElection(two, p.key("election"))
	_, err := first.Leader(p.ctx)
	p.is(err, concurrency.ErrElectionNoLeader)
	p.ok(first.Campaign(p.ctx, "first"))
	observed := second.Observe(ctx)
	equal(p, "observed", string((<-observed).Kvs[0].Value), "first")
	won := make(chan error, 1)
	go func() { won <- second.Campaign(p.ctx, "second") }()
	p.ok(first.Proclaim(p.ctx, "still first"))
	equal(p, "proclaimed", string((<-observed).Kvs[0].Value), "still first")
	p.ok(first.Resign(p.ctx))
	p.ok(<-won)
	leader, err := first.Leader(p.ctx)
	p.ok(err)
	equal(p, "next leader", string(leader.Kvs[0].Value), "second")
	p.is(first.Proclaim(p.ctx, "late"), concurrency.ErrElectionNotLeader)
	p.ok(second.Resign(p.ctx))
}

func transactionalMemory(p *peer) {
	_, err := p.client.Put(p.ctx, p.key("stm/a"), "100")
	p.ok(err)
	_, err = p.client.Put(p.ctx, p.key("stm/b"), "0")
	p.ok(err)
	var group sync.WaitGroup
	failures := make(chan error, 10)
	for range 10 {
		group.Add(1)
		go func() {
			defer group.Done()
			_, err := concurrency.NewSTM(p.client, func(stm concurrency.STM) error {
				a, _ := strconv.Atoi(stm.Get(p.key("stm/a")))
				b, _ := strconv.Atoi(stm.Get(p.key("stm/b")))
				stm.Put(p.key("stm/a"), strconv.Itoa(a-10))
				stm.Put(p.key("stm/b"), strconv.Itoa(b+10))
				return nil
			})
			failures <- err
		}()
	}
	group.Wait()
	for range 10 {
		p.ok(<-failures)
	}
	got, err := p.client.Get(p.ctx, p.key("stm/"), clientv3.WithPrefix())
	p.ok(err)
	equal(p, "a", string(got.Kvs[0].Value), "0")
	equal(p, "b", string(got.Kvs[1].Value), "100")
}

// The calls that a kube-apiserver makes.
func kubernetesClient(p *peer) {
	kube := kubernetes.Client{Client: p.client}
	kube.Kubernetes = &kube
	key := p.key("kube/pod")
	created, err := kube.OptimisticPut(p.ctx, key, []byte("v1"), 0,
		kubernetes.PutOptions{GetOnFailure: true})
	p.ok(err)
	p.that(created.Succeeded, "create failed")
	again, err := kube.OptimisticPut(p.ctx, key, []byte("v2"), 0,
		kubernetes.PutOptions{GetOnFailure: true})
	p.ok(err)
	p.that(!again.Succeeded, "second create succeeded")
	equal(p, "value on failure", string(again.KV.Value), "v1")
	updated, err := kube.OptimisticPut(p.ctx, key, []byte("v2"), created.Revision,
		kubernetes.PutOptions{})
	p.ok(err)
	p.that(updated.Succeeded, "update failed")
	got, err := kube.Get(p.ctx, key, kubernetes.GetOptions{Revision: created.Revision})
	p.ok(err)
	equal(p, "old value", string(got.KV.Value), "v1")
	for _, name := range []string{"a", "b", "c"} {
		_, err = p.client.Put(p.ctx, p.key("kube/list/"+name), name)
		p.ok(err)
	}
	page, err := kube.List(p.ctx, p.key("kube/list/"), kubernetes.ListOptions{Limit: 2})
	p.ok(err)
	equal(p, "page", keys(page.Kvs), "a b")
	equal(p, "count", page.Count, 3)
	rest, err := kube.List(p.ctx, p.key("kube/list/"), kubernetes.ListOptions{
		Limit: 2, Revision: page.Revision, Continue: string(page.Kvs[1].Key) + "\x00"})
	p.ok(err)
	equal(p, "rest", keys(rest.Kvs), "c")
	count, err := kube.Count(p.ctx, p.key("kube/list/"), kubernetes.CountOptions{})
	p.ok(err)
	equal(p, "count call", count, 3)
	stale, err := kube.OptimisticDelete(p.ctx, key, created.Revision,
		kubernetes.DeleteOptions{GetOnFailure: true})
	p.ok(err)
	p.that(!stale.Succeeded, "stale delete succeeded")
	equal(p, "value of a stale delete", string(stale.KV.Value), "v2")
	gone, err := kube.OptimisticDelete(p.ctx, key, updated.Revision, kubernetes.DeleteOptions{})
	p.ok(err)
	p.that(gone.Succeeded, "delete failed")
}
