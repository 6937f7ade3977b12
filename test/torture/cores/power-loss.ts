import { digestOf } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import { BlobStore } from '@sepia/store/blob-store';
import type { FilePort, OpenFile, OpenMode } from '@sepia/store/files/file-port';
import { seeded } from '@sepia/test-support/seeded';
import { readAll } from '../../../shared/store/test/contract.ts';
import { CrashFiles } from '../../../shared/store/test/crash-files.ts';
import { bytesOf } from '../client.ts';

const PUSHED = {
  class: 'pushed',
  provenance: [{ upstream: 'local', repository: 'torture/app' }],
  writtenBack: false,
} as const;

/** Blobs that a store took, then a power loss that keeps what chance has it of what was not synced; what broke, or undefined. */
export async function powerLossRuns(seed: number, runs: number, skips: boolean): Promise<string | undefined> {
  for (let run = 0; run < runs; run++) {
    const chance = seeded(seed * 7_919 + run);
    const disk = new CrashFiles('/d');
    const files: FilePort = skips ? withoutSync(disk) : disk;
    const store = await open(files);
    const sizeBytes = 1 + Math.floor(chance() * 40_000);
    const bytes = bytesOf({ seed: seed + run, sizeBytes });
    const digest = digestOf(bytes);
    if (chance() < 0.5) await store.putBytes(digest, bytes, PUSHED);
    else {
      const upload = await store.createUpload('o1.torture');
      await upload.append(bytes.subarray(0, sizeBytes >> 1));
      await upload.append(bytes.subarray(sizeBytes >> 1));
      await upload.commit(digest, PUSHED);
    }
    const survival = chance();
    const after = await open(disk.afterPowerLoss(() => chance() < survival));
    const found = await readAll(after, digest);
    const what = `${digest} (${sizeBytes} bytes, run ${run})`;
    if (found === undefined) return `after a power loss ${what} is gone`;
    if (!bytes.equals(found)) return `after a power loss ${what} has other bytes`;
  }
  return undefined;
}

function open(files: FilePort): Promise<BlobStore> {
  return BlobStore.open(
    { files, dir: '/d', log: silentLogger(), nowMs: () => 1e12 },
    { durable: true, bootId: 'one', mapDelayMs: 1e6 },
  );
}

/** A disk that says that it synced a file, and did not. */
function withoutSync(disk: CrashFiles): FilePort {
  return {
    open: async (path: string, mode: OpenMode): Promise<OpenFile> => {
      const file = await disk.open(path, mode);
      return {
        read: (into, at) => file.read(into, at),
        write: (bytes, at) => file.write(bytes, at),
        truncate: (sizeBytes) => file.truncate(sizeBytes),
        sync: async () => undefined,
        sizeBytes: () => file.sizeBytes(),
        close: () => file.close(),
      };
    },
    rename: (from, to) => disk.rename(from, to),
    unlink: (path) => disk.unlink(path),
    list: (folder) => disk.list(folder),
    stat: (path) => disk.stat(path),
    makeFolder: (path) => disk.makeFolder(path),
    syncFolder: (path) => disk.syncFolder(path),
    touch: (path, atMs) => disk.touch(path, atMs),
  };
}
