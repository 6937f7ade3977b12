import type { Logger } from '@sepia/base/log';
import { BlobStore } from '@sepia/store/blob-store';
import { budgetOf } from '@sepia/store/core/eviction';
import type { DataFolder } from '@sepia/store/data-folder';
import type { DiskRoom } from '@sepia/store/disk-room';
import { diskFiles } from '@sepia/store/files/disk-files';
import type { BlobIndex } from './blob-index.ts';

/** How much of the disk cached blobs may take: bytes, and the shares of them where eviction begins and ends. */
interface CacheLimits {
  readonly budget: number;
  readonly high: number;
  readonly low: number;
}

interface OpenStoreDeps {
  readonly folder: DataFolder;
  readonly room: DiskRoom;
  readonly index: BlobIndex;
  readonly log: Logger;
  readonly nowMs: () => number;
}

/** The blob store of an origin: durable, cached blobs within their budget, pushed ones for ever. */
export async function openStore(deps: OpenStoreDeps, cache: CacheLimits): Promise<BlobStore> {
  const { folder, room, index, log, nowMs } = deps;
  return await BlobStore.open(
    {
      files: room.guard(diskFiles),
      dir: folder.dir,
      log,
      nowMs,
      index,
      mayEvict: (_digest, attrs) => attrs.class === 'cached',
    },
    {
      durable: true,
      ...budgetOf(cache),
      bootId: folder.bootId,
      // On a full disk, what a former process left half is room.
      ...(room.isFull ? { partialTtlMs: 0 } : {}),
    },
  );
}
