import { digestOf } from '@sepia/base/digest';
import t from 'tap';
import { CONVERSION_CALLS } from '../../src/api/conversions.ts';
import { JOIN_REQUEST } from '../../src/api/join.ts';
import {
  INDEX_HOME,
  isSignedBinding,
  LAYER_BINDING,
  LAYER_CALLS,
  signBinding,
} from '../../src/api/layer-binding.ts';
import { LAZY_ANSWER, LAZY_COMPLAINT, LAZY_OFFERS } from '../../src/api/lazy-offers.ts';
import { LEASE_REQUEST } from '../../src/api/lease.ts';
import { PROFILE_ANSWER, PROFILE_CALL } from '../../src/api/start-profile.ts';

const KEY = Buffer.alloc(32, 7);
const DIGEST = digestOf(Buffer.from('layer'));
const LATER = { later: 'said' };
const BINDING = signBinding(KEY, {
  version: 1,
  layer: DIGEST,
  diffId: DIGEST,
  index: DIGEST,
  indexBytes: 9,
  home: { upstream: 'local', repository: 'team/app' },
  by: 'accelerator-1',
  atMs: 1,
});

t.test('what is not known of a message is passed over', async (t) => {
  const lease = { bootId: 'b', seq: 1, addresses: [], ttlMs: 9_000, add: [], drop: [], leeching: [] };
  const join = { nodeId: 'n', addresses: [], upstream: 'u', repository: 'r', leeching: true };
  const profile = { manifest: DIGEST, paths: ['/bin/sh'] };
  const holder = { holder: 'a' };
  const messages = [
    [LEASE_REQUEST, { ...lease, setHash: '0'.repeat(16) }],
    [JOIN_REQUEST, join],
    [PROFILE_CALL, { profile: { ...profile, ...LATER } }],
    [PROFILE_ANSWER, { profile: { ...profile, by: 'n', atMs: 1, ...LATER } }],
    [LAZY_ANSWER, { isShown: true }],
    [LAZY_COMPLAINT, { upstream: 'u', repository: 'r', layer: DIGEST, index: DIGEST, reason: 'why' }],
    [LAYER_CALLS.complain, { index: DIGEST, reason: 'why' }],
    [CONVERSION_CALLS.take, { ...holder, limit: 1 }],
    [CONVERSION_CALLS.renew, holder],
    [CONVERSION_CALLS.finish, { ...holder, result: {} }],
    [CONVERSION_CALLS.fail, { ...holder, error: 'why', isFinal: false }],
    [CONVERSION_CALLS.release, holder],
  ] as const;
  for (const [schema, message] of messages) {
    const read = schema.safeParse({ ...message, ...LATER });
    t.match(read, { success: true, data: { later: undefined } }, JSON.stringify(message));
  }
});

t.test('what is handed on is kept whole', async (t) => {
  const task = { kind: 'convert', rule: 'r', upstream: 'u', repository: 'team/app', tag: 'v1', ...LATER };
  t.same(CONVERSION_CALLS.add.parse({ task }).task, task);
  const home = { ...BINDING.home, ...LATER };
  const binding = { ...BINDING, home, ...LATER };
  t.same(LAYER_CALLS.bind.parse({ binding, ...LATER }), { binding });
  t.ok(isSignedBinding(KEY, LAYER_BINDING.parse(binding)), 'what is signed is what this version knows');
  t.notOk(isSignedBinding(KEY, LAYER_BINDING.parse({ ...binding, atMs: 2 })));
});

t.test('a binding of a later version is none, and takes no other image with it', async (t) => {
  const offer = { id: 'o', upstream: 'local', repository: 'team/app', manifest: DIGEST, waitMs: 9 };
  const layer = { digest: DIGEST, sizeBytes: 1, diffId: DIGEST };
  const layers = [
    { ...layer, binding: { ...BINDING, version: 2 } },
    { ...layer, binding: BINDING },
  ];
  const [read] = LAZY_OFFERS.parse({ offers: [{ ...offer, layers }] }).offers;
  t.same(
    read?.layers.map(({ binding }) => binding),
    [undefined, BINDING],
  );
});

t.test('a binding of a later version keeps its index from being swept', async (t) => {
  const { index, home } = BINDING;
  t.same(INDEX_HOME.parse({ ...BINDING, version: 2, ...LATER }), { index, home });
  t.notOk(
    INDEX_HOME.safeParse({ ...BINDING, index: undefined }).success,
    'one without an index has none to keep',
  );
});
