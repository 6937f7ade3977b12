import { join } from 'node:path';
import { type Digest, digestHex, digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { bytesOf } from '@sepia/test-support/seeded';
import t from 'tap';
import { CACHED, checksOf, PUSHED, readAll } from './contract.ts';
import { inMemory, onDisk } from './grounds.ts';

for (const ground of [onDisk, inMemory]) {
  const check = checksOf(t, ground);

  check('a small upload has no file before it is a blob', async (t, ground, open) => {
    const store = await open();
    const uploads = async (): Promise<string[]> => await ground.files.list(join(ground.dir, 'uploads'));
    for (const [at, algorithm] of (['sha256', 'sha512'] as const).entries()) {
      const bytes = bytesOf(30_000, 40 + at);
      const digest = digestOf(bytes, algorithm);
      const upload = await store.createUpload(`o1.${algorithm}`);
      const lent = new Uint8Array(15_000);
      for (const half of [bytes.subarray(0, 15_000), bytes.subarray(15_000)]) {
        lent.set(half);
        await upload.append(lent);
      }
      t.same(await uploads(), []);
      t.equal(await store.has(digest), false);
      const told = await upload.commit(digest, PUSHED);
      t.same(told.attrs, PUSHED);
      t.ok(Buffer.from(bytes).equals(told.bytes!), 'what it was given is told');
      t.same(await uploads(), []);
      t.ok(Buffer.from(bytes).equals((await readAll(store, digest))!));
      await upload.drop();
      t.ok(await store.has(digest), 'a drop comes too late');
    }
    await store.close();
  });

  check('an upload that grows, or finds no room in memory, goes to its file', async (t, ground, open) => {
    const store = await open();
    const uploads = async (): Promise<number> =>
      (await ground.files.list(join(ground.dir, 'uploads'))).length;
    const bytes = bytesOf(200_000, 50);
    const grown = await store.createUpload('grown');
    await grown.append(bytes.subarray(0, 60_000));
    t.equal(await uploads(), 0);
    await grown.append(bytes.subarray(60_000));
    t.equal(await uploads(), 1);
    t.equal((await grown.commit(digestOf(bytes), PUSHED)).bytes, undefined);
    t.ok(Buffer.from(bytes).equals((await readAll(store, digestOf(bytes)))!));

    const small = bytesOf(64 * 1024, 51);
    const held = await Promise.all(
      Array.from({ length: 257 }, async (_, at) => {
        const upload = await store.createUpload(`held${at}`);
        await upload.append(small);
        return upload;
      }),
    );
    t.equal(await uploads(), 1, 'one of 257 uploads of 64 KiB is beyond 16 MiB');
    await held.at(-1)!.commit(digestOf(small), PUSHED);
    t.ok(Buffer.from(small).equals((await readAll(store, digestOf(small)))!));
    await held[0]!.drop();
    const next = await store.createUpload('next');
    await next.append(small);
    t.equal(await uploads(), 0, 'one that went leaves room for the next');
    t.equal((await next.commit(digestOf(small), CACHED)).attrs.class, 'pushed', 'as they are now');
    for (const upload of held) await upload.drop();
    await store.close();
  });

  check('what is to be durable with a blob is begun once that is in its place', async (t, ground, open) => {
    const store = await open();
    const [bytes, other] = [bytesOf(9_000, 60), bytesOf(8_000, 61)];
    const seen: unknown[] = [];
    const looks = (digest: Digest) => async (): Promise<void> => {
      const hex = digestHex(digest);
      seen.push((await ground.files.stat(join(ground.dir, 'blobs/sha256', hex.slice(0, 2), hex)))?.sizeBytes);
    };
    const wrong = await store.createUpload('wrong');
    await wrong.append(bytes);
    await t.rejects(wrong.commit(digestOf(other), PUSHED, looks(digestOf(other))), {
      code: 'DIGEST_MISMATCH',
    });
    await wrong.drop();
    t.same(seen, []);
    const upload = await store.createUpload('right');
    await upload.append(other);
    await upload.commit(digestOf(other), CACHED, looks(digestOf(other)));
    t.same(seen, [8_000]);
    const failing = async (): Promise<void> => {
      throw new CodedError('DISK_FULL');
    };
    const late = await store.createUpload('late');
    await late.append(bytes);
    await t.rejects(late.commit(digestOf(bytes), PUSHED, failing), { code: 'DISK_FULL' });
    t.ok(await store.has(digestOf(bytes)), 'the blob is there all the same');
    await store.close();
  });
}
