import { mkdir, open, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { systemCode } from '@sepia/base/errors';
import type { LayerCache } from '@sepia/lazy/convert/convert-image';
import type { LayerRecord } from '@sepia/lazy/convert/layer-job';

/**
 * Remembers converted layers in a folder, a small file each, so that a conversion that was stopped goes on where it was.
 * A record appears by rename; one that cannot be read counts as none.
 */
export function layerRecords(folder: string): LayerCache {
  return {
    get: async (key) => {
      let text: string;
      try {
        text = await readFile(join(folder, key), 'utf8');
      } catch (error) {
        if (systemCode(error) === 'ENOENT') return undefined;
        throw error;
      }
      return parse(text);
    },
    put: async (key, record) => {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      const partial = join(folder, `${key}.${process.pid}`);
      const file = await open(partial, 'w', 0o600);
      try {
        await file.writeFile(JSON.stringify(record));
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(partial, join(folder, key));
    },
  };
}

function parse(text: string): LayerRecord | undefined {
  try {
    const record = JSON.parse(text) as LayerRecord;
    return record.kind === 'converted' || record.kind === 'kept' ? record : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
