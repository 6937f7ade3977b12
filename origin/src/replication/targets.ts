import { readFileSync } from 'node:fs';
import { CodedError, systemCode } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import type { Cluster } from '@sepia/cluster/cluster';
import type { ReplicationRule } from '@sepia/cluster/replication-rule';
import { SlotGate } from '@sepia/upstream/slot-gate';
import { TargetClient } from '@sepia/upstream/target-client';
import { ByteBudget, RuleMatcher } from './core/replication.ts';

/** One rule with what belongs to it in this process. */
export interface Target {
  readonly rule: ReplicationRule;
  readonly matcher: RuleMatcher;
  readonly client: TargetClient;
  /** Blobs that are sent at once. */
  readonly gate: SlotGate;
  readonly budget: ByteBudget | undefined;
  /** Where a blob was seen or put at the target: it can be mounted from there. Oldest first out. */
  readonly places: Map<string, string>;
}

interface TargetsDeps {
  readonly cluster: Cluster;
  readonly credentials: Readonly<
    Record<string, { readonly username: string; readonly 'password-file': string }>
  >;
  readonly log: Logger;
  readonly nowMs: () => number;
}

const QUEUE_LIMIT = 100_000;
const QUEUE_MS = 24 * 3_600_000;

/** The replication rules of the cluster document by name. @throws {CodedError} `CONFIG_INVALID` that names the key */
export function openTargets(deps: TargetsDeps): Map<string, Target> {
  const rules = deps.cluster.document.replication;
  return new Map(rules.map((rule, index) => [rule.name, openTarget(deps, rule, `replication.${index}`)]));
}

function openTarget(deps: TargetsDeps, rule: ReplicationRule, path: string): Target {
  const { url, insecure, ca } = rule.to;
  const named = rule.credentials === undefined ? undefined : deps.credentials[rule.credentials];
  if (rule.credentials !== undefined && named === undefined)
    throw new CodedError('CONFIG_INVALID', {
      message: `credentials.${rule.credentials}: is missing; ${path} of the cluster document names it`,
    });
  const credentials =
    named === undefined
      ? undefined
      : {
          username: named.username,
          password: readText(named['password-file'], `credentials.${rule.credentials}.password-file`).trim(),
        };
  const client = new TargetClient(
    {
      name: rule.name,
      url,
      insecure,
      credentials,
      ca: ca === undefined ? undefined : readText(ca, `${path}.to.ca`),
      log: deps.log,
      nowMs: deps.nowMs,
    },
    { connections: rule['max-parallel'] },
  );
  return {
    rule,
    matcher: new RuleMatcher(rule),
    client,
    gate: new SlotGate({ slots: rule['max-parallel'], queueLimit: QUEUE_LIMIT, waitMs: QUEUE_MS }),
    budget: rule.rate === undefined ? undefined : new ByteBudget(rule.rate),
    places: new Map(),
  };
}

function readText(file: string, key: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throwIfBug(cause);
    throw new CodedError('CONFIG_INVALID', {
      message: `${key}: ${file} cannot be read (${systemCode(cause)})`,
      cause,
    });
  }
}
