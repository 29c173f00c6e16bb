package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/clientv3util"
)

func keys(kvs []*mvccpb.KeyValue) string {
	names := make([]string, len(kvs))
	for i, kv := range kvs {
		names[i] = string(kv.Key[strings.LastIndexByte(string(kv.Key), '/')+1:])
	}
	return strings.Join(names, " ")
}

func putAndGet(p *peer) {
	put, err := p.client.Put(p.ctx, p.key("kv/a"), "1")
	p.ok(err)
	first := put.Header.Revision
	p.that(put.Header.ClusterId != 0 && put.Header.MemberId != 0, "header without ids")
	p.that(put.Header.RaftTerm > 0, "header without term")
	p.that(put.PrevKv == nil, "prev_kv not asked for")
	put, err = p.client.Put(p.ctx, p.key("kv/a"), "2", clientv3.WithPrevKV())
	p.ok(err)
	equal(p, "revision", put.Header.Revision, first+1)
	equal(p, "prev value", string(put.PrevKv.Value), "1")
	equal(p, "prev mod revision", put.PrevKv.ModRevision, first)
	got, err := p.client.Get(p.ctx, p.key("kv/a"))
	p.ok(err)
	equal(p, "count", got.Count, 1)
	kv := got.Kvs[0]
	equal(p, "value", string(kv.Value), "2")
	equal(p, "create revision", kv.CreateRevision, first)
	equal(p, "mod revision", kv.ModRevision, first+1)
	equal(p, "version", kv.Version, 2)
	got, err = p.client.Get(p.ctx, p.key("kv/a"), clientv3.WithRev(first))
	p.ok(err)
	equal(p, "historic value", string(got.Kvs[0].Value), "1")
	equal(p, "header revision is the current one", got.Header.Revision, first+1)
	_, err = p.client.Put(p.ctx, p.key("kv/a"), "", clientv3.WithIgnoreValue())
	p.ok(err)
	got, err = p.client.Get(p.ctx, p.key("kv/a"), clientv3.WithSerializable())
	p.ok(err)
	equal(p, "value kept", string(got.Kvs[0].Value), "2")
	equal(p, "version after ignore_value", got.Kvs[0].Version, 3)
	big := strings.Repeat("v", 1<<20)
	_, err = p.client.Put(p.ctx, p.key("kv/big"), big)
	p.ok(err)
	got, err = p.client.Get(p.ctx, p.key("kv/big"))
	p.ok(err)
	p.that(string(got.Kvs[0].Value) == big, "1 MiB value came back different")
	_, err = p.client.Put(p.ctx, p.key("kv/\x00\xff"), "\x00\xff")
	p.ok(err)
	got, err = p.client.Get(p.ctx, p.key("kv/\x00\xff"))
	p.ok(err)
	equal(p, "binary value", string(got.Kvs[0].Value), "\x00\xff")
}

func rangeOptions(p *peer) {
	pre := p.key("range/")
	var first int64
	for i, name := range []string{"a", "b", "c", "d", "e"} {
		put, err := p.client.Put(p.ctx, pre+name, fmt.Sprint(9-i))
		p.ok(err)
		if i == 0 {
			first = put.Header.Revision
		}
	}
	_, err := p.client.Put(p.ctx, pre+"b", "0") // b: newest, version 2, smallest value
	p.ok(err)
	cases := []struct {
		what    string
		options []clientv3.OpOption
		want    string
		count   int64
		more    bool
	}{
		{"prefix", nil, "a b c d e", 5, false},
		{"limit", []clientv3.OpOption{clientv3.WithLimit(2)}, "a b", 5, true},
		{"limit reached", []clientv3.OpOption{clientv3.WithLimit(5)}, "a b c d e", 5, false},
		{"descend", []clientv3.OpOption{
			clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend)}, "e d c b a", 5, false},
		{"by value", []clientv3.OpOption{
			clientv3.WithSort(clientv3.SortByValue, clientv3.SortAscend)}, "b e d c a", 5, false},
		{"by version, limit", []clientv3.OpOption{clientv3.WithLimit(1),
			clientv3.WithSort(clientv3.SortByVersion, clientv3.SortDescend)}, "b", 5, true},
		{"by mod", []clientv3.OpOption{
			clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortAscend)}, "a c d e b", 5, false},
		{"by create", []clientv3.OpOption{
			clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortDescend)},
			"e d c b a", 5, false},
		{"min mod", []clientv3.OpOption{clientv3.WithMinModRev(first + 3)}, "b d e", 5, false},
		{"max mod", []clientv3.OpOption{clientv3.WithMaxModRev(first + 2)}, "a c", 5, false},
		{"min create", []clientv3.OpOption{clientv3.WithMinCreateRev(first + 3)}, "d e", 5, false},
		{"max create", []clientv3.OpOption{clientv3.WithMaxCreateRev(first + 1)}, "a b", 5, false},
		{"historic", []clientv3.OpOption{clientv3.WithRev(first + 1)}, "a b", 2, false},
		{"count only", []clientv3.OpOption{clientv3.WithCountOnly()}, "", 5, false},
	}
	for _, c := range cases {
		got, err := p.client.Get(p.ctx, pre, append([]clientv3.OpOption{clientv3.WithPrefix()},
			c.options...)...)
		p.ok(err)
		equal(p, c.what, keys(got.Kvs), c.want)
		equal(p, c.what+": count", got.Count, c.count)
		equal(p, c.what+": more", got.More, c.more)
	}
	got, err := p.client.Get(p.ctx, pre, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	p.ok(err)
	equal(p, "keys only", keys(got.Kvs), "a b c d e")
	for _, kv := range got.Kvs {
		equal(p, "keys only: value", len(kv.Value), 0)
		p.that(kv.ModRevision > 0 && kv.Version > 0, "keys only without revisions")
	}
	got, err = p.client.Get(p.ctx, pre+"c", clientv3.WithFromKey(), clientv3.WithLimit(2))
	p.ok(err)
	equal(p, "from key", keys(got.Kvs), "c d")
	got, err = p.client.Get(p.ctx, pre+"b", clientv3.WithRange(pre+"d"))
	p.ok(err)
	equal(p, "half-open", keys(got.Kvs), "b c")
	got, err = p.client.Get(p.ctx, pre+"d", clientv3.WithRange(pre+"b"))
	p.ok(err)
	equal(p, "inverted", len(got.Kvs), 0)
	got, err = p.client.Get(p.ctx, pre, clientv3.WithLastRev()...)
	p.ok(err)
	equal(p, "last revision", keys(got.Kvs), "b")
}

func rangeStream(p *peer) {
	pre := p.key("stream/")
	const total = 500
	value := strings.Repeat("x", 2000)
	for i := range total / 100 {
		var ops []clientv3.Op
		for j := range 100 {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("%s%03d", pre, i*100+j), value))
		}
		_, err := p.client.Txn(p.ctx).Then(ops...).Commit()
		p.ok(err)
	}
	for _, options := range [][]clientv3.OpOption{
		{clientv3.WithPrefix()},
		{clientv3.WithPrefix(), clientv3.WithLimit(37)},
		{clientv3.WithPrefix(), clientv3.WithKeysOnly()},
		{clientv3.WithPrefix(), clientv3.WithCountOnly()},
		{clientv3.WithPrefix(), clientv3.WithSerializable()},
	} {
		stream, err := p.client.GetStream(p.ctx, pre, options...)
		p.ok(err)
		merged, err := clientv3.GetStreamToGetResponse(stream)
		p.ok(err)
		unary, err := p.client.Get(p.ctx, pre, options...)
		p.ok(err)
		equal(p, "keys", keys(merged.Kvs), keys(unary.Kvs))
		equal(p, "count", merged.Count, unary.Count)
		equal(p, "more", merged.More, unary.More)
		equal(p, "revision", merged.Header.GetRevision(), unary.Header.Revision)
	}
	stream, err := p.client.GetStream(p.ctx, pre, clientv3.WithPrefix(),
		clientv3.WithSort(clientv3.SortByVersion, clientv3.SortDescend))
	if err == nil {
		_, err = clientv3.GetStreamToGetResponse(stream)
	}
	p.that(err != nil && strings.Contains(err.Error(), "does not support custom sort orders"),
		"sorted stream: %v", err)
}

func deletes(p *peer) {
	pre := p.key("delete/")
	for _, name := range []string{"a", "b", "c"} {
		_, err := p.client.Put(p.ctx, pre+name, name)
		p.ok(err)
	}
	del, err := p.client.Delete(p.ctx, pre+"a", clientv3.WithPrevKV())
	p.ok(err)
	equal(p, "deleted", del.Deleted, 1)
	equal(p, "prev_kvs", keys(del.PrevKvs), "a")
	revision := del.Header.Revision
	del, err = p.client.Delete(p.ctx, pre+"a")
	p.ok(err)
	equal(p, "deleted again", del.Deleted, 0)
	equal(p, "a delete of nothing takes no revision", del.Header.Revision, revision)
	del, err = p.client.Delete(p.ctx, pre, clientv3.WithPrefix(), clientv3.WithPrevKV())
	p.ok(err)
	equal(p, "deleted by prefix", del.Deleted, 2)
	equal(p, "prev_kvs by prefix", keys(del.PrevKvs), "b c")
	equal(p, "one revision for both", del.Header.Revision, revision+1)
	_, err = p.client.Put(p.ctx, pre+"a", "again")
	p.ok(err)
	got, err := p.client.Get(p.ctx, pre+"a")
	p.ok(err)
	equal(p, "version starts over", got.Kvs[0].Version, 1)
	equal(p, "create revision starts over", got.Kvs[0].CreateRevision, revision+2)
}

func txns(p *peer) {
	pre := p.key("txn/")
	put, err := p.client.Put(p.ctx, pre+"a", "5")
	p.ok(err)
	rev := put.Header.Revision
	compares := []struct {
		what  string
		cmp   clientv3.Cmp
		holds bool
	}{
		{"value =", clientv3.Compare(clientv3.Value(pre+"a"), "=", "5"), true},
		{"value !=", clientv3.Compare(clientv3.Value(pre+"a"), "!=", "5"), false},
		{"value <", clientv3.Compare(clientv3.Value(pre+"a"), "<", "6"), true},
		{"version =", clientv3.Compare(clientv3.Version(pre+"a"), "=", 1), true},
		{"version >", clientv3.Compare(clientv3.Version(pre+"a"), ">", 1), false},
		{"create =", clientv3.Compare(clientv3.CreateRevision(pre+"a"), "=", rev), true},
		{"mod <", clientv3.Compare(clientv3.ModRevision(pre+"a"), "<", rev+1), true},
		{"lease =", clientv3.Compare(clientv3.LeaseValue(pre+"a"), "=", clientv3.NoLease), true},
		{"exists", clientv3util.KeyExists(pre + "a"), true},
		{"missing", clientv3util.KeyMissing(pre + "none"), true},
		{"missing, value !=", clientv3.Compare(clientv3.Value(pre+"none"), "!=", "x"), false},
		{"missing, version =", clientv3.Compare(clientv3.Version(pre+"none"), "=", 0), true},
		{"whole prefix", clientv3.Compare(clientv3.Version(pre), ">", 0).WithPrefix(), true},
	}
	for _, c := range compares {
		txn, err := p.client.Txn(p.ctx).If(c.cmp).Then(clientv3.OpGet(pre + "a")).Commit()
		p.ok(err)
		equal(p, c.what, txn.Succeeded, c.holds)
		equal(p, c.what+": revision", txn.Header.Revision, rev)
	}
	txn, err := p.client.Txn(p.ctx).
		If(clientv3.Compare(clientv3.Value(pre+"a"), "=", "wrong")).
		Then(clientv3.OpDelete(pre+"a")).
		Else(clientv3.OpPut(pre+"a", "6", clientv3.WithPrevKV()), clientv3.OpGet(pre+"a"),
			clientv3.OpPut(pre+"b", "1"), clientv3.OpDelete(pre+"c"),
			clientv3.OpGet(pre, clientv3.WithPrefix(), clientv3.WithCountOnly())).
		Commit()
	p.ok(err)
	equal(p, "branch", txn.Succeeded, false)
	equal(p, "answers", len(txn.Responses), 5)
	equal(p, "one revision", txn.Header.Revision, rev+1)
	equal(p, "prev_kv in txn", string(txn.Responses[0].GetResponsePut().PrevKv.Value), "5")
	equal(p, "sees the write before it",
		string(txn.Responses[1].GetResponseRange().Kvs[0].Value), "6")
	equal(p, "nothing deleted", txn.Responses[3].GetResponseDeleteRange().Deleted, 0)
	equal(p, "count", txn.Responses[4].GetResponseRange().Count, 2)
	txn, err = p.client.Txn(p.ctx).Commit()
	p.ok(err)
	equal(p, "empty txn", txn.Succeeded, true)
}

func nestedTxn(p *peer) {
	pre := p.key("nested/")
	_, err := p.client.Put(p.ctx, pre+"a", "1")
	p.ok(err)
	// The inner compare is decided on the state before the outer put.
	txn, err := p.client.Txn(p.ctx).
		If(clientv3.Compare(clientv3.Value(pre+"a"), "=", "1")).
		Then(
			clientv3.OpPut(pre+"a", "2"),
			clientv3.OpTxn(
				[]clientv3.Cmp{clientv3.Compare(clientv3.Value(pre+"a"), "=", "1")},
				[]clientv3.Op{clientv3.OpPut(pre+"b", "then"), clientv3.OpTxn(nil,
					[]clientv3.Op{clientv3.OpGet(pre, clientv3.WithPrefix())}, nil)},
				[]clientv3.Op{clientv3.OpPut(pre+"b", "else")}),
		).Commit()
	p.ok(err)
	equal(p, "outer", txn.Succeeded, true)
	inner := txn.Responses[1].GetResponseTxn()
	equal(p, "inner compare", inner.Succeeded, true)
	innermost := inner.Responses[1].GetResponseTxn()
	equal(p, "innermost range", keys(innermost.Responses[0].GetResponseRange().Kvs), "a b")
	got, err := p.client.Get(p.ctx, pre+"b")
	p.ok(err)
	equal(p, "branch taken", string(got.Kvs[0].Value), "then")
	equal(p, "same revision", got.Kvs[0].ModRevision, txn.Header.Revision)
}

func txnLimits(p *peer) {
	pre := p.key("limits/")
	var ops []clientv3.Op
	for i := range 129 {
		ops = append(ops, clientv3.OpPut(fmt.Sprint(pre, i), "x"))
	}
	_, err := p.client.Txn(p.ctx).Then(ops...).Commit()
	p.is(err, rpctypes.ErrTooManyOps)
	txn, err := p.client.Txn(p.ctx).Then(ops[:128]...).Commit()
	p.ok(err)
	equal(p, "128 operations", len(txn.Responses), 128)
	_, err = p.client.Txn(p.ctx).Then(clientv3.OpPut(pre+"a", "1"),
		clientv3.OpPut(pre+"a", "2")).Commit()
	p.is(err, rpctypes.ErrDuplicateKey)
	_, err = p.client.Txn(p.ctx).Then(clientv3.OpPut(pre+"a", "1"),
		clientv3.OpDelete(pre, clientv3.WithPrefix())).Commit()
	p.is(err, rpctypes.ErrDuplicateKey)
}

func kvErrors(p *peer) {
	_, err := p.client.Put(p.ctx, "", "x")
	p.is(err, rpctypes.ErrEmptyKey)
	_, err = p.client.Get(p.ctx, p.key("x"), clientv3.WithRev(1<<40))
	p.is(err, rpctypes.ErrFutureRev)
	_, err = p.client.Put(p.ctx, p.key("none"), "", clientv3.WithIgnoreValue())
	p.is(err, rpctypes.ErrKeyNotFound)
	_, err = p.client.Put(p.ctx, p.key("none"), "", clientv3.WithIgnoreLease())
	p.is(err, rpctypes.ErrKeyNotFound)
	_, err = p.client.Put(p.ctx, p.key("x"), "", clientv3.WithLease(12345))
	p.is(err, rpctypes.ErrLeaseNotFound)
	_, err = p.client.Put(p.ctx, p.key("x"), strings.Repeat("x", 1572864))
	p.is(err, rpctypes.ErrRequestTooLarge)
	short, cancel := context.WithTimeout(p.ctx, time.Nanosecond)
	defer cancel()
	_, err = p.client.Get(short, p.key("x"))
	p.is(err, context.DeadlineExceeded)
}
