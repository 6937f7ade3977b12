import { isDigest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { ORIGIN_NAMES } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import type { Command } from 'commander';
import { WORK_MS } from '../deadlines.ts';
import { Operator, type OperatorFlags, operatorOptions } from '../operator/operator.ts';
import { parseImageReference } from '../registry/image-reference.ts';

interface Removed {
  readonly tags: readonly string[];
  readonly digests: number;
  readonly missed: readonly string[];
}

/** `sepia purge`. */
export function addPurge(program: Command): void {
  operatorOptions(program.command('purge <ref-or-repository>'))
    .description('forget a tag, a digest or a whole repository in every cache of the cluster, agents too')
    .option('--upstream <name>', 'upstream that it belongs to (default: by its host, else the first)')
    .option('--yes', 'go on where Sepia is the source of truth, where it deletes for good', false)
    .action(async (ref: string, flags: OperatorFlags & { upstream?: string; yes: boolean }) => {
      await using operator = Operator.open(flags);
      const parsed = operator.nameOf(ref);
      const upstream = operator.cluster.upstream(flags.upstream ?? parsed.upstream);
      const name = { ...parsed, upstream: upstream.name };
      const what = whatOf(ref, parsed.reference);
      const text = `${what.text} of ${upstream.name}`;
      if (upstream.mode === 'none' && !flags.yes)
        throw new CodedError('REQUEST_INVALID', {
          message: `${text}: this upstream has mode none, so this is a delete and nothing brings it back; repeat it with --yes`,
        });
      const done = await operator.askOwner<Removed>(name, {
        ...to(ORIGIN_NAMES.removal, name),
        json: what.body,
        headersTimeoutMs: WORK_MS,
      });
      const act = upstream.mode === 'none' ? 'deleted' : 'purged';
      process.stdout.write(`${act} ${text}: ${done.tags.length} tags, ${done.digests} digests\n`);
      if (done.missed.length === 0) return;
      process.exitCode = 1;
      process.stdout.write(
        `${done.missed.join(', ')} did not take it: copies that nothing names stay in caches there, or at nodes that hear of it from there alone; repeat it then\n`,
      );
    });
}

/** A name without tag and digest is a whole repository, not its tag `latest`. */
function whatOf(ref: string, reference: string): { text: string; body: { tag?: string; digest?: string } } {
  const { repository } = parseImageReference(ref);
  if (isDigest(reference)) return { text: `${repository}@${reference}`, body: { digest: reference } };
  if (ref.endsWith(`:${reference}`)) return { text: `${repository}:${reference}`, body: { tag: reference } };
  return { text: `all of ${repository}`, body: {} };
}
