import { Readable } from 'node:stream';
import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { Metainfo } from '@sepia/metainfo/metainfo';
import { pieceHash } from '@sepia/metainfo/tree';
import t from 'tap';
import { Repair } from '../../src/blobs/repair.ts';

const BYTES = Buffer.from('a blob of one piece');
const DIGEST = digestOf(BYTES);

/** A damaged blob of an origin with one other, and an upstream; `other` and `upstream` say what those answer. */
function damaged(other: () => Promise<unknown>, upstream?: () => Promise<unknown>) {
  const state = { nowMs: 0, looks: 0 };
  const handle = {
    metainfo: () => Metainfo.final(DIGEST, BYTES.length, pieceHash(BYTES)),
    attrs: { provenance: [{ upstream: 'hub', repository: 'app' }] },
    readPieceVerified: async () => {
      state.looks += 1;
      throw new CodedError('DISK_CORRUPT');
    },
    [Symbol.asyncDispose]: async () => undefined,
  };
  const deps = {
    members: {
      selfId: 'o1',
      tries: () => ['o1', 'o2'],
      call: other,
      onReturn: () => undefined,
    },
    store: { open: async () => handle, mendPiece: async () => true },
    upstreams: { blobs: () => (upstream === undefined ? undefined : { getBlob: upstream }) },
    log: silentLogger(),
    nowMs: () => state.nowMs,
    rot: { onRotten: () => undefined, onMended: () => undefined, onUnmended: () => undefined },
  };
  const repair = new Repair(deps as unknown as ConstructorParameters<typeof Repair>[0], { mendMs: 0 });
  t.teardown(() => repair.stop());
  return { repair, state };
}

const fails = (error: CodedError) => async () => await Promise.reject(error);
const UNKNOWN = fails(new CodedError('BLOB_UNKNOWN', { detail: { status: 404 } }));
const CUT = async () => ({
  body: new Readable({
    read() {
      this.destroy(new Error('cut'));
    },
  }),
});

t.test('who said nothing is asked again soon; where all said no, nobody is for a while', async (t) => {
  const cases: [string, boolean, () => Promise<unknown>, (() => Promise<unknown>)?][] = [
    ['an origin is silent', true, fails(new CodedError('PEER_HTTP'))],
    ['an origin hangs', true, fails(new CodedError('TIMEOUT'))],
    ['an upstream is silent', true, UNKNOWN, fails(new CodedError('BACKEND_DOWN'))],
    [
      'an upstream says 503',
      true,
      UNKNOWN,
      fails(new CodedError('BACKEND_DOWN', { detail: { status: 503 } })),
    ],
    ['the origin does not have it', false, UNKNOWN],
    ['its copy is damaged as well', false, CUT],
    ['nor has the upstream', false, CUT, UNKNOWN],
  ];
  for (const [what, isSilent, other, upstream] of cases) {
    const { repair, state } = damaged(other, upstream);
    await t.rejects(repair.mend(DIGEST, 0), { code: 'NO_PEERS', detail: { piece: 0 } }, what);
    state.nowMs += 4_000;
    await repair.look(DIGEST, 0);
    t.equal(state.looks, 0, `${what}: not at once`);
    state.nowMs += 2_000;
    await repair.look(DIGEST, 0);
    t.equal(state.looks, isSilent ? 1 : 0, what);
    state.nowMs += 60_000;
    await repair.look(DIGEST, 0);
    t.equal(state.looks, isSilent ? 2 : 1, `${what}: after a while in any case`);
  }
});

t.test('a bug is thrown, not taken for nowhere', async (t) => {
  const { repair, state } = damaged(async () => await Promise.reject(new TypeError('wrong code')));
  await t.rejects(repair.mend(DIGEST, 0), TypeError);
  state.nowMs += 1;
  await t.rejects(repair.look(DIGEST, 0), TypeError);
  t.equal(state.looks, 1, 'it was looked at');
});
