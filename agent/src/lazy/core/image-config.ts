import { type Digest, isDigest } from '@sepia/base/digest';
import { tryParse } from '@sepia/base/failure';
import { isTwofold } from './twofold.ts';

const WATCHED = { '': ['rootfs'], rootfs: ['diff_ids', 'type'] } as const;

/** DiffIDs of a config; a doubt about them; undefined where no runtime would unpack the image. */
type Read = { readonly diffIds: readonly Digest[] } | { readonly doubt: string } | undefined;

/** Reads a config as the most lenient of its readers does: what cannot be understood there has no layers to show. */
export function readDiffIds(config: Uint8Array, layers: number): Read {
  const text = new TextDecoder().decode(config);
  const parsed = tryParse(() => JSON.parse(text) as { rootfs?: { diff_ids?: unknown } } | null);
  if (!parsed.ok) return undefined;
  if (isTwofold(text, WATCHED)) return { doubt: 'its config names rootfs or diff_ids in two ways' };
  const ids = parsed.value?.rootfs?.diff_ids;
  if (!Array.isArray(ids) || ids.length !== layers) return undefined;
  const diffIds = ids.filter((id): id is Digest => typeof id === 'string' && isDigest(id));
  if (diffIds.length === 0) return undefined;
  return diffIds.length === ids.length ? { diffIds } : { doubt: 'its config has diffIDs that are none' };
}
