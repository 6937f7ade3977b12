import { CodedError } from '@sepia/base/errors';
import type { Cluster } from '@sepia/cluster/cluster';

/** Who a member says that it is, and where that is written. */
interface SaysItIs {
  readonly id?: string | undefined;
  readonly 'cluster-document': string;
}

/** The configured id, if the cluster document has it as an origin. @throws `CONFIG_INVALID` */
export function checkedId(config: SaysItIs, cluster: Cluster): string {
  const { id } = config;
  if (id === undefined)
    throw new CodedError('CONFIG_INVALID', {
      message: 'id: is missing; an origin needs the id that the cluster document gives it',
    });
  const member = cluster.findMember(id);
  if (member === undefined)
    throw new CodedError('CONFIG_INVALID', {
      message: `id: "${id}" is not in ${config['cluster-document']}; add it as a member with role origin`,
    });
  if (member.role !== 'origin')
    throw new CodedError('CONFIG_INVALID', {
      message: `id: "${id}" has role ${member.role} in ${config['cluster-document']}, not origin`,
    });
  return id;
}
