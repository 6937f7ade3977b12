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

/** Checks a cluster document and the files that it names, as the start of an origin does. @throws {CodedError} `CONFIG_INVALID` that names file and key */
export async function checkDocument(file: string): Promise<void> {
  (await import('@sepia/origin')).checkDocument(file);
}

/**
 * Checks a config file as the start of that role does, and the files that it names.
 * @param env of the process: HTTP proxies, and where credential helpers are
 * @throws {CodedError} `CONFIG_INVALID` that names the key
 */
export async function checkAsRole(
  role: Role,
  file: string,
  env: Readonly<Record<string, string | undefined>>,
): Promise<void> {
  if (role === 'origin') {
    const { checkOrigin, loadOriginConfig } = await import('@sepia/origin');
    await checkOrigin(loadOriginConfig(file), env);
  } else if (role === 'tracker') {
    const { checkTracker, loadTrackerConfig } = await import('@sepia/tracker');
    checkTracker(loadTrackerConfig(file));
  } else if (role === 'proxy') {
    const { checkProxy, loadProxyConfig } = await import('@sepia/proxy');
    checkProxy(loadProxyConfig(file));
  } else if (role === 'accelerator') {
    const { checkAccelerator, loadAcceleratorConfig } = await import('@sepia/accelerator');
    await checkAccelerator(loadAcceleratorConfig(file), env);
  } else if (role === 'snapshotter') {
    const { checkSnapshotter, loadSnapshotterConfig } = await import('@sepia/snapshotter');
    checkSnapshotter(loadSnapshotterConfig(file));
  } else {
    const { checkAgent, loadAgentConfig } = await import('@sepia/agent');
    checkAgent(loadAgentConfig(file));
  }
}
