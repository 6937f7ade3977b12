import { CodedError } from '@sepia/base/errors';
import { isRepositoryName } from '@sepia/base/names/repository';
import type { Where } from '@sepia/cluster/api/blob-answers';

/** A repository that a blob came under. */
interface Brought {
  readonly upstream: string;
  readonly repository: string;
}

/** What a copy's header says of the repositories that brought it, at most, in bytes. */
const MAX_HEADER_BYTES = 6_144;

/**
 * The repositories that brought a blob, for the header of its copy: `UPSTREAM/REPOSITORY,…`. One of each upstream comes
 * first, since what waits for a registry is known by its upstream; what has no room is left out.
 */
export function broughtText(brought: readonly Brought[]): string {
  const seen = new Set<string>();
  const firsts: Brought[] = [];
  const others: Brought[] = [];
  for (const one of brought) {
    (seen.has(one.upstream) ? others : firsts).push(one);
    seen.add(one.upstream);
  }
  let text = '';
  for (const { upstream, repository } of [...firsts, ...others]) {
    const next = `${text === '' ? '' : ','}${upstream}/${repository}`;
    if (text.length + next.length <= MAX_HEADER_BYTES) text += next;
  }
  return text;
}

/** Reads {@link broughtText}; nothing of a member of an older version, which does not say. @throws `REQUEST_INVALID` */
export function broughtOf(text: string): Brought[] {
  if (text === '') return [];
  return text.split(',').map((one) => {
    const at = one.indexOf('/');
    const [upstream, repository] = [one.slice(0, Math.max(0, at)), one.slice(at + 1)];
    if (upstream === '' || !isRepositoryName(repository))
      throw new CodedError('REQUEST_INVALID', { message: 'a repository that brought the blob is not one' });
    return { upstream, repository };
  });
}

/**
 * True if a member has the blob as one that was pushed, by every upstream of those that keep what is pushed until their
 * registry has it: a copy that only others brought may become a cached one, and go before that.
 */
export function knowsPushes(
  where: Pick<Where, 'state' | 'class' | 'upstreams'>,
  brought: readonly Brought[],
  keepsPushes: (upstream: string) => boolean,
): boolean {
  if (where.state !== 'final' || where.class !== 'pushed') return false;
  const { upstreams } = where;
  // A member of an older version answers for the name that it is asked by.
  if (upstreams === undefined) return true;
  return brought.every(({ upstream }) => upstreams.includes(upstream) || !keepsPushes(upstream));
}
