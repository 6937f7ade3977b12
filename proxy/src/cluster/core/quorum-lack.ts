import type { Health } from '@sepia/cluster/core/health';
import { majority } from '@sepia/cluster/ring';

/**
 * Undefined while a majority of the origins answers, else why a proxy is not ready: how many answer and who is silent.
 */
export function quorumLack(ids: readonly string[], health: Health): string | undefined {
  const silent = health.silent(ids);
  const answering = ids.length - silent.length;
  const needed = majority(ids.length);
  if (answering >= needed) return undefined;
  const who = silent.length === 0 ? '' : `; silent: ${silent.join(', ')}`;
  return `${answering} of ${ids.length} origins answer; ${needed} are needed${who}`;
}
