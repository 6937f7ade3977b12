import type { Member } from '@sepia/cluster/document';
import type { Membership } from '@sepia/cluster/membership';
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

/** `o1` of an agreed ring, and what `o2` says. */
function world(own: Membership) {
  const made = { own, said: own, errors: 0 };
  const members = {
    selfId: 'o1',
    find: (id: string) => made.own.origins.find((one) => one.id === id),
    json: async () => ({ founded: true, membership: made.said }),
  };
  const ring = new Ring({
    cluster: {
      file: { members: [] },
      members: () => ringOf(0, ['o1', 'o2']).origins,
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
      follow: async () => undefined,
      get membership() {
        return made.own;
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
