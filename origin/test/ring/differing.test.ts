import type { Member } from '@sepia/cluster/document';
import { beginChange, endChange, type Membership } from '@sepia/cluster/membership';
import t from 'tap';
import { Ring } from '../../src/ring/ring.ts';

function ringOf(epoch: number, ids: readonly string[], weight = 1): Membership {
  const member = (id: string): Member => ({
    id,
    role: 'origin',
    urls: [`http://${id}.example`],
    peers: [],
    weight,
    state: 'active',
  });
  return { v: 1, epoch, origins: ids.map(member) };
}

/** So many changes later: an origin is drained, or added again, in turn. */
function later(ring: Membership, changes: number): Membership {
  let at = ring;
  for (let done = 0; done < changes; done++) {
    const last = at.origins.toSorted((a, b) => (a.id < b.id ? 1 : -1))[0]!;
    const isDrain = last.state === 'active';
    at = endChange(
      beginChange(at, isDrain ? { action: 'drain', ids: [last.id] } : { action: 'add', members: [last] }),
    );
  }
  return at;
}

/** `o1` of an agreed ring, and what `o2` says, or `saidBy` another one. */
function world(own: Membership) {
  const made = { own, isFounded: true, said: own, saidBy: new Map<string, Membership>(), errors: 0 };
  const members = {
    selfId: 'o1',
    find: (id: string) => made.own.origins.find((one) => one.id === id),
    json: async (id: string) => ({ founded: true, membership: made.saidBy.get(id) ?? made.said }),
  };
  const ring = new Ring({
    cluster: {
      file: { members: [] },
      members: () => ringOf(0, ['o1', 'o2', ...made.saidBy.keys()]).origins,
      get membership() {
        return made.own;
      },
      get epoch() {
        return made.own.epoch;
      },
      follow: (next: Membership) => {
        made.own = next;
      },
    },
    members,
    standing: {
      follow: async () => {
        made.isFounded = true;
      },
      get membership() {
        return made.isFounded ? made.own : undefined;
      },
    },
    log: {
      info: () => undefined,
      error: () => {
        made.errors += 1;
      },
    },
    onFollow: () => undefined,
  } as never);
  return { made, ring };
}

t.test('another origin that founded another ring at the same epoch is named, and logged once', async (t) => {
  const { made, ring } = world(ringOf(0, ['o1', 'o2', 'o3']));
  await ring.catchUp();
  t.same([ring.warnings, made.errors], [[], 0]);
  made.said = ringOf(0, ['o1', 'o2', 'o3', 'o4']);
  await ring.catchUp();
  await ring.catchUp();
  t.same(ring.warnings, [
    'the origins do not agree who they are (epoch 0): o2 names o1 (weight 1), o2 (weight 1), o3 (weight 1), o4 (weight 1)',
  ]);
  t.equal(made.errors, 1);
  made.said = ringOf(0, ['o3', 'o2', 'o1']);
  await ring.catchUp();
  t.same(ring.warnings, [], 'the order says nothing');
});

t.test('another ring of the same epoch is refused by name, whoever tells of it', async (t) => {
  const own = ringOf(4, ['o1', 'o2', 'o3']);
  const { made, ring } = world(own);
  await ring.follow(ringOf(4, ['o3', 'o2', 'o1']), 'o2');
  await t.rejects(ring.follow(ringOf(4, ['o1', 'o7', 'o8']), 'o7'), {
    code: 'CONFLICT',
    message:
      /two rings have epoch 4: o7 names o1 \(weight 1\), o7 .*; known here: o1 \(weight 1\), o2 .*started empty/,
  });
  t.equal(made.own, own);
  const began = { ...ringOf(5, ['o1', 'o2', 'o3']), before: ringOf(4, ['o1', 'o2']).origins };
  await ring.follow(began, 'o2');
  await t.rejects(ring.follow({ ...began, before: ringOf(4, ['o1', 'o9']).origins }, 'o9'), {
    code: 'CONFLICT',
  });
  await ring.follow(ringOf(4, ['o1', 'o7']), 'o7');
  t.equal(made.own.epoch, 5, 'an older one changes nothing');
});

t.test('other weights are a difference too; a newer membership ends it', async (t) => {
  const { made, ring } = world(ringOf(0, ['o1', 'o2']));
  made.said = ringOf(0, ['o1', 'o2'], 2);
  await ring.catchUp();
  t.match(ring.warnings, [/o2 names o1 \(weight 2\), o2 \(weight 2\)/]);
  made.said = ringOf(2, ['o1', 'o2'], 2);
  await ring.catchUp();
  t.same([ring.membership.epoch, ring.warnings], [2, []]);
});

t.test('who was away for five changes, or is of an old backup, follows', async (t) => {
  const old = later(ringOf(0, ['o1', 'o2', 'o3', 'o4']), 1);
  const { made, ring } = world(old);
  made.said = later(old, 5);
  await ring.catchUp();
  t.same([ring.membership.epoch, ring.warnings, made.errors], [12, [], 0]);
  const byTelling = world(old);
  await byTelling.ring.follow(later(old, 5), 'o2');
  t.equal(byTelling.ring.membership.epoch, 12);
});

t.test('a later epoch of another ring is followed by nobody, and named', async (t) => {
  const own = later(ringOf(0, ['o1', 'o2', 'o3']), 1);
  const other = later(ringOf(0, ['o1', 'o2', 'o7']), 5);
  const { made, ring } = world(own);
  made.said = other;
  await ring.catchUp();
  await ring.catchUp();
  t.equal(ring.membership, own);
  t.match(ring.warnings, [
    /do not agree who they are \(epoch 0\): o2 names o1 .*o7 \(weight 1, draining\) at epoch 10$/,
  ]);
  t.equal(made.errors, 1);
  await t.rejects(ring.follow(other, 'o2'), {
    code: 'CONFLICT',
    message:
      /two rings have epoch 0: o2 names .*o7 .* \(epoch 10\); known here: .*o3 .* \(epoch 2\); .*started empty/,
  });
  await t.rejects(ring.reach(10, 'o2'), { code: 'RECORDS_PENDING', message: /o2 names .*o7/ });
  t.equal(ring.membership, own);
});

t.test('another ring of a later epoch does not hide the own one', async (t) => {
  const own = ringOf(0, ['o1', 'o2', 'o3']);
  const { made, ring } = world(own);
  made.said = later(ringOf(0, ['o1', 'o2', 'o7']), 5);
  made.saidBy.set('o3', later(own, 2));
  await ring.reach(4);
  t.same(ring.membership, later(own, 2));
  t.match(ring.warnings, [/o2 names o1/]);
  made.said = ring.membership;
  await ring.catchUp();
  t.same(ring.warnings, [], 'it was started empty');
});

t.test('an earlier epoch of another ring is named too', async (t) => {
  const { made, ring } = world(later(ringOf(0, ['o1', 'o2', 'o3']), 3));
  made.said = later(ringOf(0, ['o1', 'o2', 'o7']), 1);
  await ring.catchUp();
  t.match(ring.warnings, [/\(epoch 0\): o2 names .* at epoch 2$/]);
  await ring.follow(made.said, 'o2');
  t.equal(ring.membership.epoch, 6, 'an older one changes nothing');
});

t.test('who was started empty follows the ring that most name, whoever is heard first', async (t) => {
  const own = ringOf(0, ['o1', 'o2', 'o3']);
  const { made, ring } = world(own);
  made.isFounded = false;
  made.said = later(ringOf(0, ['o1', 'o2', 'o7']), 5);
  for (const id of ['o3', 'o4']) made.saidBy.set(id, later(own, 1));
  await ring.catchUp(['o2']);
  t.same(ring.membership, later(own, 1));
  t.match(ring.warnings, [/o2 names o1/]);
});
