import t from 'tap';
import { endChange } from '../src/membership.ts';
import { MEMBERSHIP_SCHEMA, RING_ANSWER, RING_CHANGE } from '../src/ring-messages.ts';

const MEMBER = { id: 'o1', role: 'origin', urls: ['http://o1:1'], peers: [], weight: 1, state: 'active' };

t.test('what a later version says of a membership or a member is kept', async (t) => {
  const later = { ...MEMBER, rack: 'r7' };
  const membership = {
    v: 1,
    epoch: 3,
    origins: [later],
    before: [later],
    change: 'add o1',
    reason: 'growth',
  };
  t.same(MEMBERSHIP_SCHEMA.parse(membership), membership);
  t.same(RING_ANSWER.parse({ founded: true, membership }).membership, membership);
  t.same(endChange(MEMBERSHIP_SCHEMA.parse(membership)).origins, [later]);
});

t.test('what is known must be right, and an operator is told of what is not known', async (t) => {
  for (const wrong of [
    { v: 2, epoch: 0, origins: [MEMBER] },
    { v: 1, epoch: -1, origins: [MEMBER] },
    { v: 1, epoch: 0, origins: [{ ...MEMBER, weight: 0 }] },
    { v: 1, epoch: 0 },
  ])
    t.notOk(MEMBERSHIP_SCHEMA.safeParse(wrong).success, JSON.stringify(wrong));
  const members = [{ ...MEMBER, rack: 'r7' }];
  t.notOk(RING_CHANGE.safeParse({ epoch: 0, action: 'add', members }).success);
});

t.test('a zone that counts for none is kept where it is on record, and taken from no operator', async (t) => {
  const members = [{ ...MEMBER, zone: '' }];
  const membership = { v: 1, epoch: 0, origins: members };
  t.same(MEMBERSHIP_SCHEMA.parse(membership), membership);
  t.match(RING_CHANGE.safeParse({ epoch: 0, action: 'add', members }).error?.message, /name of a zone/);
});
