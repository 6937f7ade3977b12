import { CodedError } from '@sepia/base/errors';
import type { LayerEntry } from '../index/layer-entry.ts';
import { type ByteString, byteStringOf, textOf } from '../tar/byte-string.ts';

const CAPABILITY = byteStringOf('security.capability');

/**
 * A hard link's entry has a header of its own, and containerd gives owner, mode and xattrs of it to the file that it
 * links to, which loses its capabilities by that. An image has what the file's own entry says: where that is something
 * else the layer is unpacked.
 * @param entries walked twice
 * @throws {CodedError} `LAYER_NOT_LAZY`, reason `hard-link-with-other-attributes`
 */
export function checkLinkHeaders(entries: Iterable<LayerEntry>): void {
  const named = new Set<ByteString>();
  for (const entry of entries) if (entry.type === 'hardlink') named.add(entry.link);
  if (named.size === 0) return;
  const files = new Map<ByteString, LayerEntry>();
  for (const entry of entries) {
    const file = entry.type === 'hardlink' ? files.get(entry.link) : entry;
    if (file === undefined) continue;
    // Others are no link's: there may be millions.
    if (named.has(entry.path)) files.set(entry.path, file);
    if (!isSame(file, entry))
      throw new CodedError('LAYER_NOT_LAZY', {
        detail: { reason: 'hard-link-with-other-attributes', path: textOf(entry.path) },
      });
  }
}

function isSame(file: LayerEntry, link: LayerEntry): boolean {
  if (file === link) return true;
  // Linux keeps no mode of a symbolic link.
  const isModeSame = file.type === 'symlink' || file.mode === link.mode;
  if (!isModeSame || file.uid !== link.uid || file.gid !== link.gid) return false;
  if (file.xattrs.has(CAPABILITY) && !link.xattrs.has(CAPABILITY)) return false;
  return [...link.xattrs].every(([name, value]) => {
    const own = file.xattrs.get(name);
    return own !== undefined && Buffer.compare(own, value) === 0;
  });
}
