import t from 'tap';
import { FreshPieces } from '../../src/shell/fresh-pieces.ts';
import { type SharedSlab, SlabPool } from '../../src/shell/slab-pool.ts';

const QUIET = { opened: () => undefined, moved: () => undefined, closed: () => undefined };

/** Gives a slab back that may still be read. */
function keep(pool: SlabPool, slab: Uint8Array): SharedSlab {
  const shared = pool.share(slab);
  shared.settle(true);
  return shared;
}

function isHere(kept: SharedSlab): boolean {
  const free = kept.pin();
  free?.();
  return free !== undefined;
}

t.test('a slab has one owner, and all come back', async (t) => {
  const pool = new SlabPool(2);
  const [one, two] = [pool.acquire()!, pool.acquire()!];
  t.not(one, two);
  t.equal(pool.acquire(), undefined);
  let woken = 0;
  pool.whenFree(() => {
    woken += 1;
  });
  pool.release(one);
  t.equal(woken, 1);
  t.throws(() => pool.release(one), TypeError);
  t.throws(() => keep(pool, one), TypeError);
  t.equal(pool.acquire(), one);
  t.equal(pool.taken, 2);
});

t.test('swarms that wait get slabs in turn: none keeps the pool to itself', async (t) => {
  const pool = new SlabPool(2);
  const slabs = [pool.acquire()!, pool.acquire()!];
  const got: string[] = [];
  for (const name of ['a', 'b', 'c']) {
    const wake = (): void => {
      const slab = pool.acquire();
      if (slab !== undefined) {
        got.push(name);
        slabs.push(slab);
      }
      // As a swarm does that wants more than there is.
      pool.whenFree(wake);
    };
    pool.whenFree(wake);
  }
  for (let turn = 0; turn < 6; turn++) pool.release(slabs.shift()!);
  t.same(got, ['a', 'b', 'c', 'a', 'b', 'c']);
});

t.test('who is woken and takes nothing passes the slab on', async (t) => {
  const pool = new SlabPool(1);
  const slab = pool.acquire()!;
  const woken: string[] = [];
  pool.whenFree(() => woken.push('a'));
  pool.whenFree(() => woken.push('b'));
  pool.release(slab);
  t.same(woken, ['a', 'b']);
});

t.test('a kept slab is anybody’s, unless it is being read', async (t) => {
  const pool = new SlabPool(2);
  const first = pool.acquire()!;
  const kept = keep(pool, first);
  t.equal(pool.taken, 0);
  const free = kept.pin()!;
  t.equal(pool.taken, 1);
  const second = pool.acquire()!;
  t.not(second, first, 'what is read is not given away');
  t.equal(pool.acquire(), undefined);
  let woken = false;
  pool.whenFree(() => {
    woken = true;
  });
  free();
  free();
  t.ok(woken);
  t.equal(pool.acquire(), first);
  t.equal(kept.pin(), undefined, 'its bytes are gone');
  kept.drop();
  t.equal(pool.taken, 2);
});

t.test('what is dropped is free once, and read no more', async (t) => {
  const pool = new SlabPool(2);
  const kept = keep(pool, pool.acquire()!);
  kept.drop();
  kept.drop();
  t.equal(kept.pin(), undefined);
  t.not(pool.acquire(), pool.acquire());
  t.equal(pool.acquire(), undefined);
});

t.test('slabs are kept in limited number, the oldest goes first', async (t) => {
  const pool = new SlabPool(40);
  const kept = Array.from({ length: 40 }, () => pool.acquire()!).map((slab) => keep(pool, slab));
  t.equal(kept.filter((one) => isHere(one)).length, 16);
  t.ok(isHere(kept.at(-1)!), 'the newest are here');
});

t.test('readers that hold what they are given leave most slabs to the swarm', async (t) => {
  const pool = new SlabPool(40);
  const held: (() => void)[] = [];
  for (let turn = 0; turn < 100; turn++) {
    const slab = pool.acquire();
    if (slab === undefined) break;
    const kept = keep(pool, slab);
    const frees = [kept.pin(), kept.pin()].filter((free) => free !== undefined);
    t.ok(frees.length === 0 || frees.length === 2, 'a slab that is held may be held twice');
    held.push(...frees);
  }
  t.equal(held.length, 16, 'eight slabs');
  t.equal(pool.taken, 8);
  const rest = Array.from({ length: 33 }, () => pool.acquire()).filter((slab) => slab !== undefined);
  t.equal(rest.length, 32);
  for (const free of held) free();
  t.equal(pool.taken, 32);
});

t.test('pieces in front of a reader are lent from memory, others are not kept', async (t) => {
  const pool = new SlabPool(4);
  const events: string[] = [];
  const fresh = new FreshPieces(pool, {
    opened: (reader, index, last) => events.push(`open ${reader} ${index} ${last}`),
    moved: (reader, index) => events.push(`move ${reader} ${index}`),
    closed: (reader) => events.push(`close ${reader}`),
  });
  const offer = (index: number, value: number): void => {
    const slab = pool.acquire()!;
    slab.fill(value);
    fresh.offer(index, slab, 100)(true);
  };
  offer(5, 5);
  t.equal(fresh.lend(5), undefined, 'nobody reads');
  const reader = fresh.openReader(4, 9);
  offer(5, 6);
  const lent = fresh.lend(5)!;
  t.equal(lent.bytes.length, 100);
  t.ok(lent.bytes.every((byte) => byte === 6));
  for (let index = 6; index < 12; index++) offer(index, index);
  t.ok(
    lent.bytes.every((byte) => byte === 6),
    'as it was, while it is lent',
  );
  lent.free();
  t.equal(pool.taken, 0);
  reader.move(9);
  offer(10, 10);
  t.equal(fresh.lend(5), undefined, 'the reader is past it');
  reader.close();
  reader.close();
  reader.move(11);
  t.strictSame(events, ['open 0 4 9', 'move 0 9', 'close 0']);
  fresh.stop();
  t.equal(fresh.lend(10), undefined);
  t.equal(pool.taken, 0);
});

t.test('a piece that is lent when its swarm ends stays until it is given back', async (t) => {
  const pool = new SlabPool(1);
  const fresh = new FreshPieces(pool, QUIET);
  fresh.openReader(0, undefined);
  fresh.offer(0, pool.acquire()!, 1)(true);
  const lent = fresh.lend(0)!;
  fresh.stop();
  t.equal(pool.acquire(), undefined);
  lent.free();
  t.not(pool.acquire(), undefined);
});

t.test('a piece is lent while it is written', async (t) => {
  const pool = new SlabPool(2);
  const fresh = new FreshPieces(pool, QUIET);
  const reader = fresh.openReader(0, undefined);
  const [first, second] = [pool.acquire()!, pool.acquire()!];
  const written = fresh.offer(0, first, 1);
  const failed = fresh.offer(1, second, 1);
  t.equal(pool.taken, 2, 'their owner has them still');
  const lent = fresh.lend(0)!;
  t.equal(lent.bytes.buffer, first.buffer);
  t.equal(fresh.lend(1), undefined, 'readers hold a fifth of the pool');
  written(true);
  t.equal(pool.taken, 2, 'written, and read');
  lent.free();
  t.equal(pool.taken, 1);
  const again = fresh.lend(0)!;
  failed(false);
  t.equal(fresh.lend(1), undefined, 'what could not be written is nobody’s');
  t.equal(pool.acquire(), second);
  again.free();
  reader.close();
  t.equal(pool.acquire(), first);
});

t.test('a swarm that ends while a piece is written and lent', async (t) => {
  for (const isWritten of [true, false]) {
    const pool = new SlabPool(1);
    const fresh = new FreshPieces(pool, QUIET);
    fresh.openReader(0, undefined);
    const slab = pool.acquire()!;
    const settle = fresh.offer(0, slab, 1);
    const lent = fresh.lend(0)!;
    fresh.stop();
    t.equal(fresh.lend(0), undefined);
    settle(isWritten);
    t.equal(pool.acquire(), undefined, 'it is read still');
    lent.free();
    t.equal(pool.acquire(), slab);
  }
});

t.test('the slab of a piece that nobody comes to takes none from those who do', async (t) => {
  const pool = new SlabPool(40);
  const fresh = new FreshPieces(pool, QUIET);
  fresh.openReader(0, undefined);
  for (let index = 0; index < 16; index++) fresh.offer(index, pool.acquire()!, 1)(true);
  for (let index = 100; index < 120; index++) fresh.offer(index, pool.acquire()!, 1)(true);
  for (let index = 0; index < 16; index++) {
    const lent = fresh.lend(index);
    t.ok(lent, `${index}`);
    lent?.free();
  }
});
