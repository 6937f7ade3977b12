import { type Digest, isDigest } from '@sepia/base/digest';
import { tryParse } from '@sepia/base/failure';
import { MAX_COMMAND_TEXT, MAX_COMMAND_WORDS, type StartCommand } from '@sepia/cluster/api/lazy-offers';
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

/** Where a config's environment names no `PATH`, as runc has it. */
const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** What a config says that the image runs; undefined where it says nothing that can be used. It is a hint, and trusted by nobody. */
export function readCommand(config: Uint8Array): StartCommand | undefined {
  const parsed = tryParse(() => JSON.parse(new TextDecoder().decode(config)) as { config?: unknown } | null);
  const said = parsed.ok ? parsed.value?.config : undefined;
  if (typeof said !== 'object' || said === null) return undefined;
  const { Entrypoint, Cmd, Env, WorkingDir } = said as Readonly<Record<string, unknown>>;
  const words = [...textsOf(Entrypoint), ...textsOf(Cmd)].slice(0, MAX_COMMAND_WORDS);
  if (words.length === 0) return undefined;
  const variable = (name: string): string | undefined =>
    textsOf(Env)
      .findLast((one) => one.startsWith(`${name}=`))
      ?.slice(name.length + 1);
  const [folder = '/'] = textsOf([WorkingDir]).filter((one) => one !== '');
  return {
    words,
    path: variable('PATH') ?? DEFAULT_PATH,
    loaderPath: variable('LD_LIBRARY_PATH') ?? '',
    folder,
  };
}

function textsOf(value: unknown): string[] {
  if (!Array.isArray(value)) return [];
  return value.filter((one): one is string => typeof one === 'string' && one.length <= MAX_COMMAND_TEXT);
}
