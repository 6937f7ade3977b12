import type { z } from 'zod';
import type { Role } from '../up/plan.ts';

/** The config schema of a role; loads that service only. */
export async function roleSchema(role: Role): Promise<z.ZodType> {
  if (role === 'origin') return (await import('@sepia/origin')).ORIGIN_CONFIG;
  if (role === 'tracker') return (await import('@sepia/tracker')).TRACKER_CONFIG;
  if (role === 'proxy') return (await import('@sepia/proxy')).PROXY_CONFIG;
  if (role === 'accelerator') return (await import('@sepia/accelerator')).ACCELERATOR_CONFIG;
  if (role === 'snapshotter') return (await import('@sepia/snapshotter')).SNAPSHOTTER_CONFIG;
  return (await import('@sepia/agent')).AGENT_CONFIG;
}
