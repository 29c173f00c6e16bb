package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// next is the next answer of a watch; the run fails when none comes.
func (p *peer) next(watch clientv3.WatchChan) clientv3.WatchResponse {
	select {
	case response, open := <-watch:
		p.that(open, "watch ended")
		return response
	case <-time.After(15 * time.Second):
		p.fail("no watch answer in 15 s")
		panic("unreachable")
	}
}

// events collects `count` events, each as "PUT key=value@version" or "DELETE key", and checks that
// their revisions never go back.
func (p *peer) events(watch clientv3.WatchChan, count int) []string {
	var seen []string
	var last int64
	for len(seen) < count {
		response := p.next(watch)
		p.ok(response.Err())
		for _, event := range response.Events {
			p.that(event.Kv.ModRevision >= last, "revisions went back")
			last = event.Kv.ModRevision
			name := string(event.Kv.Key[strings.LastIndexByte(string(event.Kv.Key), '/')+1:])
			text := fmt.Sprintf("%s %s", event.Type, name)
			if event.Type == clientv3.EventTypePut {
				text += fmt.Sprintf("=%s@%d", event.Kv.Value, event.Kv.Version)
			}
			if event.PrevKv != nil {
				text += fmt.Sprintf(" was %s", event.PrevKv.Value)
			}
			seen = append(seen, text)
		}
	}
	return seen
}

func (p *peer) sees(watch clientv3.WatchChan, want ...string) {
	equal(p, "events", strings.Join(p.events(watch, len(want)), ", "), strings.Join(want, ", "))
}

func watches(p *peer) {
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	pre := p.key("watch/")
	now := p.client.Watch(ctx, pre, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	response := p.next(now)
	p.that(response.Created, "first answer is not the creation")
	put, err := p.client.Put(p.ctx, pre+"a", "1")
	p.ok(err)
	first := put.Header.Revision
	_, err = p.client.Txn(p.ctx).Then(clientv3.OpPut(pre+"b", "2"),
		clientv3.OpPut(pre+"c", "3")).Commit()
	p.ok(err)
	_, err = p.client.Delete(p.ctx, pre+"a")
	p.ok(err)
	_, err = p.client.Put(p.ctx, pre+"a", "4")
	p.ok(err)
	p.sees(now, "PUT a=1@1", "PUT b=2@1", "PUT c=3@1", "DELETE a", "PUT a=4@1")
	past := p.client.Watch(ctx, pre, clientv3.WithPrefix(), clientv3.WithRev(first+1),
		clientv3.WithPrevKV())
	p.sees(past, "PUT b=2@1", "PUT c=3@1", "DELETE a was 1", "PUT a=4@1")
	single := p.client.Watch(ctx, pre+"a", clientv3.WithRev(first))
	p.sees(single, "PUT a=1@1", "DELETE a", "PUT a=4@1")
	from := p.client.Watch(ctx, pre+"b", clientv3.WithRange(pre+"c"), clientv3.WithRev(first))
	p.sees(from, "PUT b=2@1")
	future := p.client.Watch(ctx, pre+"f", clientv3.WithRev(first+6))
	for i := range 4 { // first+4, +5, +6, +7
		_, err = p.client.Put(p.ctx, pre+"f", fmt.Sprint(i))
		p.ok(err)
	}
	p.sees(future, "PUT f=2@3", "PUT f=3@4")
	// Many watches over one stream all see the same write.
	var many []clientv3.WatchChan
	for range 100 {
		many = append(many, p.client.Watch(ctx, pre+"many", clientv3.WithRev(first)))
	}
	_, err = p.client.Put(p.ctx, pre+"many", "x")
	p.ok(err)
	for _, watch := range many {
		p.sees(watch, "PUT many=x@1")
	}
}

func watchProgress(p *peer) {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(p.ctx))
	defer cancel()
	pre := p.key("progress/")
	watch := p.client.Watch(ctx, pre, clientv3.WithPrefix(), clientv3.WithCreatedNotify(),
		clientv3.WithProgressNotify())
	p.that(p.next(watch).Created, "first answer is not the creation")
	for i := range 3 {
		put, err := p.client.Put(p.ctx, p.key("elsewhere"), fmt.Sprint(i))
		p.ok(err)
		var response clientv3.WatchResponse
		for range 20 { // an unsynced watch may leave a request unanswered
			p.ok(p.client.RequestProgress(ctx))
			select {
			case response = <-watch:
			case <-time.After(500 * time.Millisecond):
				continue
			}
			if response.Header.Revision >= put.Header.Revision {
				break
			}
		}
		p.that(response.IsProgressNotify(), "no progress answer")
		p.that(response.Header.Revision >= put.Header.Revision, "progress is behind the write")
	}
	_, err := p.client.Put(p.ctx, pre+"a", "1")
	p.ok(err)
	for {
		response := p.next(watch)
		if response.IsProgressNotify() {
			continue
		}
		equal(p, "event after progress", string(response.Events[0].Kv.Value), "1")
		break
	}
}

func watchFragments(p *peer) {
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	pre := p.key("fragment/")
	value := strings.Repeat("f", 600<<10)
	got, err := p.client.Get(p.ctx, pre)
	p.ok(err)
	for i := range 8 {
		_, err := p.client.Put(p.ctx, fmt.Sprint(pre, i), value)
		p.ok(err)
	}
	for _, options := range [][]clientv3.OpOption{
		{clientv3.WithFragment()}, {},
	} {
		watch := p.client.Watch(ctx, pre, append(options, clientv3.WithPrefix(),
			clientv3.WithRev(got.Header.Revision+1))...)
		seen := 0
		for seen < 8 {
			response := p.next(watch)
			p.ok(response.Err())
			for _, event := range response.Events {
				equal(p, "key order", string(event.Kv.Key), fmt.Sprint(pre, seen))
				equal(p, "size", len(event.Kv.Value), len(value))
				seen++
			}
		}
	}
}

func watchFilters(p *peer) {
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	pre := p.key("filter/")
	put, err := p.client.Put(p.ctx, pre+"a", "1")
	p.ok(err)
	_, err = p.client.Delete(p.ctx, pre+"a")
	p.ok(err)
	_, err = p.client.Put(p.ctx, pre+"a", "2")
	p.ok(err)
	rev := clientv3.WithRev(put.Header.Revision)
	p.sees(p.client.Watch(ctx, pre+"a", rev, clientv3.WithFilterDelete()), "PUT a=1@1", "PUT a=2@1")
	p.sees(p.client.Watch(ctx, pre+"a", rev, clientv3.WithFilterPut()), "DELETE a")
	// An empty range is refused by a message inside the stream.
	response := p.next(p.client.Watch(ctx, pre+"b", clientv3.WithRange(pre+"a")))
	p.that(response.Canceled && strings.Contains(response.Err().Error(), "watcher range is empty"),
		"inverted range: %v", response.Err())
}

func requireLeader(p *peer) {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(p.ctx), 5*time.Second)
	defer cancel()
	_, err := p.client.Put(ctx, p.key("leader"), "x")
	p.ok(err)
	watch := p.client.Watch(ctx, p.key("leader"), clientv3.WithCreatedNotify())
	p.that(p.next(watch).Created, "no creation")
	cancel()
	for range watch {
	}
	_, err = p.client.Get(ctx, p.key("leader"))
	p.is(err, context.Canceled)
	p.that(err != rpctypes.ErrNoLeader, "no leader")
}
