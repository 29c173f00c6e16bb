package main

import (
	"bytes"
	"crypto/sha256"
	"io"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func (p *peer) endpoint() string { return p.client.Endpoints()[0] }

func maintenance(p *peer) {
	members, err := p.client.MemberList(p.ctx)
	p.ok(err)
	p.that(len(members.Members) >= 1, "no members")
	equal(p, "cluster rpc revision", members.Header.Revision, 0)
	me := members.Members[0]
	p.that(me.ID != 0 && len(me.PeerURLs) > 0 && len(me.ClientURLs) > 0, "member %v", me)
	status, err := p.client.Status(p.ctx, p.endpoint())
	p.ok(err)
	p.that(strings.HasPrefix(status.Version, "3."), "version %q", status.Version)
	p.that(status.Leader != 0 && status.RaftTerm > 0, "no leader in status")
	p.that(status.RaftAppliedIndex > 0 && status.RaftIndex >= status.RaftAppliedIndex, "indexes")
	p.that(status.DbSize > 0 && status.DbSizeInUse > 0, "sizes")
	equal(p, "errors", len(status.Errors), 0)
	p.that(!status.IsLearner, "a learner")
	alarms, err := p.client.AlarmList(p.ctx)
	p.ok(err)
	equal(p, "alarms", len(alarms.Alarms), 0)
	_, err = p.client.Defragment(p.ctx, p.endpoint())
	p.ok(err)
	hash, err := p.client.HashKV(p.ctx, p.endpoint(), 0)
	p.ok(err)
	again, err := p.client.HashKV(p.ctx, p.endpoint(), hash.Header.Revision)
	p.ok(err)
	equal(p, "hash", again.Hash, hash.Hash)
	equal(p, "hash revision", again.HashRevision, hash.Header.Revision)
	_, err = p.client.HashKV(p.ctx, p.endpoint(), hash.Header.Revision+1000)
	p.is(err, rpctypes.ErrFutureRev)
	auth, err := p.client.AuthStatus(p.ctx)
	p.ok(err)
	equal(p, "auth", auth.Enabled, false)
	_, err = p.client.MemberRemove(p.ctx, 12345)
	p.is(err, rpctypes.ErrMemberNotFound)
	_, err = p.client.MoveLeader(p.ctx, 12345)
	p.is(err, rpctypes.ErrBadLeaderTransferee)
}

func snapshots(p *peer) {
	snapshot, err := p.client.SnapshotWithVersion(p.ctx)
	p.ok(err)
	data, err := io.ReadAll(snapshot.Snapshot)
	p.ok(err)
	p.ok(snapshot.Snapshot.Close())
	p.that(len(data) > sha256.Size, "snapshot of %d bytes", len(data))
	body, trailer := data[:len(data)-sha256.Size], data[len(data)-sha256.Size:]
	equal(p, "size is whole pages", len(body)%512, 0)
	sum := sha256.Sum256(body)
	p.that(bytes.Equal(sum[:], trailer), "the snapshot's hash does not match")
	// A bolt file's first page is a meta page: page id 0, flags 4, magic at byte 16.
	p.that(bytes.Equal(body[16:20], []byte{0xed, 0xda, 0x0c, 0xed}), "no bolt magic")
}

func compaction(p *peer) {
	pre := p.key("compact/")
	put, err := p.client.Put(p.ctx, pre+"a", "1")
	p.ok(err)
	first := put.Header.Revision
	_, err = p.client.Put(p.ctx, pre+"a", "2")
	p.ok(err)
	_, err = p.client.Put(p.ctx, pre+"a", "3")
	p.ok(err)
	_, err = p.client.Compact(p.ctx, first+1, clientv3.WithCompactPhysical())
	p.ok(err)
	_, err = p.client.Compact(p.ctx, first+1)
	p.is(err, rpctypes.ErrCompacted)
	_, err = p.client.Compact(p.ctx, first+1000)
	p.is(err, rpctypes.ErrFutureRev)
	_, err = p.client.Get(p.ctx, pre+"a", clientv3.WithRev(first))
	p.is(err, rpctypes.ErrCompacted)
	got, err := p.client.Get(p.ctx, pre+"a", clientv3.WithRev(first+1))
	p.ok(err)
	equal(p, "the compacted revision itself", string(got.Kvs[0].Value), "2")
	watch := p.client.Watch(p.ctx, pre+"a", clientv3.WithRev(first))
	response := p.next(watch)
	p.that(response.Canceled, "watch of the past was not cancelled")
	equal(p, "compact revision", response.CompactRevision, first+1)
	p.is(response.Err(), rpctypes.ErrCompacted)
	hash, err := p.client.HashKV(p.ctx, p.endpoint(), 0)
	p.ok(err)
	equal(p, "compact revision of the hash", hash.CompactRevision, first+1)
}
