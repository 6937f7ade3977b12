import { gzipSync, zstdCompressSync } from 'node:zlib';
import { type Digest, digestOf } from '@sepia/base/digest';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { LayerProofs } from '../../src/offers/layer-proofs.ts';

const IMAGE = { host: 'local', repository: 'team/app' };

/** Proofs over blobs by their digest; what was read. */
function proofsOf(...blobs: Buffer[]) {
  const byDigest = new Map<string, Buffer>(blobs.map((blob) => [digestOf(blob), blob]));
  const reads: number[] = [];
  const proofs = new LayerProofs({
    source: {
      readIfThere: async (layer, start, end) => {
        reads.push(end - start);
        return byDigest.get(layer.digest)!.subarray(start, end);
      },
    },
  });
  return { proofs, byDigest, reads };
}

const named = (blob: Buffer) => ({ digest: digestOf(blob), sizeBytes: blob.length });

t.test('however a layer is compressed: its tar is hashed', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.uint8Array({ maxLength: 5_000 }),
      fc.constantFrom('gzip', 'members', 'zstd'),
      async (bytes, how) => {
        const tar = Buffer.from(bytes);
        const blob = {
          gzip: () => gzipSync(tar),
          members: () => Buffer.concat([gzipSync(tar.subarray(0, 100)), gzipSync(tar.subarray(100))]),
          zstd: () => zstdCompressSync(tar),
        }[how]();
        const { proofs } = proofsOf(blob);
        await proofs.prove(IMAGE, named(blob));
        return proofs.diffIdOf(digestOf(blob)) === digestOf(tar);
      },
    ),
  );
});

t.test('a plain tar, an empty layer, one of many parts', async (t) => {
  const plain = Buffer.from('no magic number of any compression');
  const large = gzipSync(Buffer.alloc(9 * 1024 * 1024, 'x'), { level: 0 });
  const { proofs, reads } = proofsOf(plain, large, Buffer.alloc(0));
  for (const blob of [plain, large, Buffer.alloc(0)]) await proofs.prove(IMAGE, named(blob));
  t.equal(proofs.diffIdOf(digestOf(plain)), digestOf(plain));
  t.equal(proofs.diffIdOf(digestOf(large)), digestOf(Buffer.alloc(9 * 1024 * 1024, 'x')));
  t.equal(proofs.diffIdOf(digestOf(Buffer.alloc(0))), digestOf(Buffer.alloc(0)));
  const before = reads.length;
  await proofs.prove(IMAGE, named(large));
  t.equal(reads.length, before, 'once');
});

t.test('bytes that are not the layer’s, or not what they say, prove nothing', async (t) => {
  const blob = gzipSync(Buffer.from('right'));
  const broken = Buffer.concat([blob.subarray(0, 12), Buffer.alloc(30, 0xff)]);
  const { proofs, byDigest } = proofsOf(blob, broken);
  byDigest.set(digestOf(blob), gzipSync(Buffer.from('wrong')));
  await t.rejects(proofs.prove(IMAGE, named(blob)), { code: 'DIGEST_MISMATCH' });
  await t.rejects(proofs.prove(IMAGE, named(broken)), { code: 'LAYER_INVALID' });
  t.equal(proofs.diffIdOf(digestOf(blob)), undefined);
  t.equal(proofs.diffIdOf(digestOf(broken)), undefined);
});

t.test('a few are read at a time, and none after the end', async (t) => {
  const layers = Array.from({ length: 5 }, (_none, index) => ({
    digest: digestOf(Buffer.from(String(index))) as Digest,
    sizeBytes: 1,
  }));
  const proofs = new LayerProofs({
    source: {
      readIfThere: async (_layer, _start, _end, signal) =>
        await new Promise((_settle, reject) =>
          signal.addEventListener('abort', () => reject(signal.reason), { once: true }),
        ),
    },
  });
  const runs = layers.map((layer) => proofs.prove(IMAGE, layer));
  const fifth = runs.pop()!;
  await t.rejects(fifth, { code: 'MEMBER_BUSY' });
  const others = runs.map((run) => t.rejects(run, { code: 'DRAINING' }));
  await proofs.stop();
  await Promise.all(others);
});
