import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import type { Membership } from '@sepia/cluster/membership';
import t from 'tap';
import { Ring } from '../../src/ring/ring.ts';

/** The ring of `o1` at epoch 0, beside `o2`, which answers `says` when it is asked for its membership. */
function world(says: () => unknown) {
  const made = { asked: 0, membership: { v: 1, epoch: 0, origins: [] } as Membership };
  const getting: Promise<void>[] = [];
  const ring = new Ring({
    cluster: {
      get membership() {
        return made.membership;
      },
      get epoch() {
        return made.membership.epoch;
      },
      file: { members: [] },
      members: () => [{ id: 'o1' }, { id: 'o2' }],
      follow: (membership: Membership) => {
        made.membership = membership;
      },
    },
    members: {
      selfId: 'o1',
      find: (id: string) => ({ id }),
      awaits: (one: Promise<void>) => getting.push(one),
      json: async () => {
        made.asked += 1;
        return says();
      },
    },
    standing: { membership: made.membership, follow: async () => undefined },
    log: silentLogger(),
    onFollow: () => undefined,
  } as never);
  return { ring, made, got: async () => await Promise.all(getting) };
}

t.test('a membership that cannot be read is asked for once, not by every answer that names it', async (t) => {
  const { ring, made, got } = world(() => ({ founded: true, membership: { v: 9 } }));
  for (let at = 0; at < 5; at++) ring.heard(2, 'o2');
  await got();
  const { asked } = made;
  t.ok(asked > 0);
  for (let at = 0; at < 5; at++) ring.heard(2, 'o2');
  await got();
  t.equal(made.asked, asked, 'it rests');
  ring.heard(4, 'o2');
  await got();
  t.ok(made.asked > asked, 'a newer one is asked for at once');
  await ring.stop();
});

t.test('what was got is followed, and the next one asked for at once', async (t) => {
  let epoch = 2;
  const { ring, made, got } = world(() => ({ founded: true, membership: { v: 1, epoch, origins: [] } }));
  ring.heard(2, 'o2');
  await got();
  t.equal(ring.membership.epoch, 2);
  epoch = 3;
  ring.heard(3, 'o2');
  await got();
  t.equal(ring.membership.epoch, 3);
  t.equal(made.asked, 2);
  await ring.stop();
});

t.test('a refusal counts as nothing got', async (t) => {
  const { ring, made, got } = world(() => {
    throw new CodedError('RECORDS_PENDING');
  });
  ring.heard(2, 'o2');
  await got();
  const { asked } = made;
  ring.heard(2, 'o2');
  await got();
  t.equal(made.asked, asked);
  await ring.stop();
});
