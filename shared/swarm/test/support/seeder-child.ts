import { setTimeout as delay } from 'node:timers/promises';
import { blobOf, fixedBytes, MemoryStore, startMember } from './members.ts';

/** A member in a process of its own: seeds `fixedBytes(size)` at about 12 MB/s, says its address, ends with its parent. */
const [name, role, size] = process.argv.slice(2);
const sizeBytes = Number(size);
const blob = blobOf(fixedBytes(sizeBytes));
const store = new MemoryStore(sizeBytes, blob.bytes);
let line: Promise<unknown> = Promise.resolve();
store.twist = async (_index, bytes) => {
  line = line.then(() => delay(bytes.length / 12_500));
  await line;
  return bytes;
};
const member = await startMember(name!, { origin: role === 'origin' });
member.engine.join({ digest: blob.digest, metainfo: blob.metainfo(), pieces: store, leech: false });
process.on('disconnect', () => process.exit());
process.send!(member.address);
