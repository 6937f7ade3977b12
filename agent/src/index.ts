import { loadConfig, withListenerPaths, withPaths } from '@sepia/base/config/load';
import type { z } from 'zod';
import { AGENT_CONFIG, type AgentConfig } from './config.ts';
import type { AgentGiven } from './ground.ts';
import { type Agent, startAgent } from './service.ts';

export { checkAgent } from './check.ts';
export { AGENT_CONFIG, type AgentConfig, RELOADED } from './config.ts';
export type { Agent } from './service.ts';

/** Starts an agent from a checked config whose paths are absolute. */
export async function createAgent(config: AgentConfig, deps: AgentGiven = {}): Promise<Agent> {
  return await startAgent(config, deps);
}

/** Reads an agent's config file; its paths become absolute. @throws {CodedError} `CONFIG_INVALID` */
export function loadAgentConfig(file: string): AgentConfig {
  const config = loadConfig(file, AGENT_CONFIG as unknown as z.ZodType<AgentConfig>);
  return Object.freeze({
    ...withPaths(file, config, [
      'data',
      'cluster-key-file',
      'cluster-document',
      'node-secret-file',
      'audit-log',
    ]),
    listeners: withListenerPaths(file, config.listeners),
  });
}
