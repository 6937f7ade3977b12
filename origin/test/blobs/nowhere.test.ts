import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { Metainfo } from '@sepia/metainfo/metainfo';
import { pieceHash } from '@sepia/metainfo/tree';
import t from 'tap';
import { Repair } from '../../src/blobs/repair.ts';

const BYTES = Buffer.from('a blob of one piece');
const DIGEST = digestOf(BYTES);

/** A damaged blob here, and origin o2, whose copy is damaged as well until `sends` says otherwise. */
function world() {
  const metainfo = Metainfo.open(DIGEST, BYTES.length, 'a'.repeat(32));
  metainfo.addHash(0, pieceHash(BYTES));
  const handle = {
    attrs: { provenance: [{ upstream: 'local', repository: 'team/app' }] },
    metainfo: () => metainfo,
    [Symbol.asyncDispose]: async () => undefined,
  };
  const o2 = { asked: 0, sends: Buffer.from('not that blob, no'), isBack: (): void => undefined };
  const clock = { ms: 0 };
  async function* bytes(): AsyncGenerator<Uint8Array> {
    yield o2.sends;
  }
  const members = {
    selfId: 'o1',
    tries: () => ['o1', 'o2'],
    onReturn: (listener: (id: string) => void) => {
      o2.isBack = () => listener('o2');
    },
    call: async () => {
      o2.asked += 1;
      return { body: bytes() };
    },
  };
  const deps = {
    members,
    store: { open: async () => handle, mendPiece: async () => true },
    upstreams: { blobs: () => undefined },
    log: silentLogger(),
    nowMs: () => clock.ms,
    rot: { onRotten: () => undefined, onMended: () => undefined, onUnmended: () => undefined },
  };
  const repair = new Repair(deps as unknown as ConstructorParameters<typeof Repair>[0], { mendMs: 0 });
  return { repair, o2, clock };
}

t.test('what was found to be nowhere is said again at once, and looked for when that is old', async (t) => {
  const { repair, o2, clock } = world();
  const nowhere = { code: 'NO_PEERS', detail: { digest: DIGEST, piece: 0 } };
  await t.rejects(repair.mend(DIGEST, 0), nowhere);
  t.equal(o2.asked, 1);
  clock.ms = 4_000;
  await t.rejects(repair.mend(DIGEST, 0), nowhere);
  t.equal(o2.asked, 1, 'nobody is asked');
  clock.ms = 5_000;
  await t.rejects(repair.mend(DIGEST, 0), nowhere);
  t.equal(o2.asked, 2, 'each source once');
  o2.sends = BYTES;
  clock.ms = 9_000;
  await t.rejects(repair.mend(DIGEST, 0), nowhere);
  clock.ms = 10_000;
  t.same(await repair.mend(DIGEST, 0), BYTES, 'the piece is there again');
  t.same(await repair.mend(DIGEST, 0), BYTES, 'and nothing is remembered of it');
});

t.test('a member that is back is asked at once', async (t) => {
  const { repair, o2 } = world();
  await t.rejects(repair.mend(DIGEST, 0), CodedError);
  o2.sends = BYTES;
  o2.isBack();
  t.same(await repair.mend(DIGEST, 0), BYTES);
});
