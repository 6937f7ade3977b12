import { parseDigest } from '@sepia/base/digest';
import { PROXY } from '@sepia/cluster/api/proxy';
import { to } from '@sepia/cluster/api/route';
import { fittingPaths } from '@sepia/cluster/api/start-profile';
import type { Operator, OperatorName } from '../operator/operator.ts';
import type { StartProfile } from './start-profile.ts';

/** Keeps a profile in the cluster, under the repository of its image. @returns what of it fits @throws as {@link Operator.askProxy} */
export async function keepProfile(
  operator: Pick<Operator, 'askProxy'>,
  { upstream, repository }: Pick<OperatorName, 'upstream' | 'repository'>,
  { image, paths }: StartProfile,
): Promise<readonly string[]> {
  const manifest = parseDigest(image.slice(image.lastIndexOf('@') + 1));
  const fitting = fittingPaths(paths);
  const call = to(PROXY.profilePut, { upstream, repository });
  await operator.askProxy({ ...call, json: { profile: { manifest, paths: fitting } } });
  return fitting;
}
