import { CodedError } from '@sepia/base/errors';
import { LatestMap } from '@sepia/base/latest-map';
import type { Logger } from '@sepia/base/log';
import type { Cluster } from '@sepia/cluster/cluster';
import type { ReplicationRule } from '@sepia/cluster/replication-rule';
import { openTargetClient } from '@sepia/upstream/client-setup';
import type { CredentialConfig } from '@sepia/upstream/credentials/open';
import { SlotGate } from '@sepia/upstream/slot-gate';
import type { TargetClient } from '@sepia/upstream/target-client';
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
  readonly credentials: Readonly<Record<string, CredentialConfig>>;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly log: Logger;
  readonly nowMs: () => number;
  readonly dateMs: () => number;
}

/** Blobs whose repository at the target is remembered. */
const MAX_PLACES = 20_000;
const QUEUE_LIMIT = 100_000;
const QUEUE_MS = 24 * 3_600_000;

/** The replication rules of the cluster document by name. @throws {CodedError} `CONFIG_INVALID` that names the key */
export function openTargets(deps: TargetsDeps): Map<string, Target> {
  const rules = deps.cluster.document.replication;
  return new Map(rules.map((rule, index) => [rule.name, openTarget(deps, rule, `replication.${index}`)]));
}

function openTarget(deps: TargetsDeps, rule: ReplicationRule, path: string): Target {
  const named = rule.credentials === undefined ? undefined : deps.credentials[rule.credentials];
  if (rule.credentials !== undefined && named === undefined)
    throw new CodedError('CONFIG_INVALID', {
      message: `credentials.${rule.credentials}: is missing; ${path} of the cluster document names it`,
    });
  const client = openTargetClient(deps, {
    name: rule.name,
    to: rule.to,
    caKey: `${path}.to.ca`,
    account: { name: rule.credentials ?? rule.name, config: named },
    connections: rule['max-parallel'],
  });
  return {
    rule,
    matcher: new RuleMatcher(rule),
    client,
    gate: new SlotGate({ slots: rule['max-parallel'], queueLimit: QUEUE_LIMIT, waitMs: QUEUE_MS }),
    budget: rule.rate === undefined ? undefined : new ByteBudget(rule.rate),
    places: new LatestMap(MAX_PLACES),
  };
}
