import { RateBudget } from '@sepia/base/async/rate-budget';
import { SingleFlight } from '@sepia/base/async/single-flight';
import { CodedError } from '@sepia/base/errors';
import { LatestMap } from '@sepia/base/latest-map';
import type { Logger } from '@sepia/base/log';
import type { Cluster, ClusterUpstream } from '@sepia/cluster/cluster';
import type { ReplicationRule } from '@sepia/cluster/replication-rule';
import { type WriteBack, writeBackOf } from '@sepia/cluster/write-back';
import { openTargetClient } from '@sepia/upstream/client-setup';
import type { CredentialConfig } from '@sepia/upstream/credentials/open';
import { SlotGate } from '@sepia/upstream/slot-gate';
import type { TargetClient } from '@sepia/upstream/target-client';
import { TARGET_QUEUE_MS } from '../deadlines/upstreams.ts';
import { RuleMatcher } from './core/replication.ts';
import { ReferrerLists } from './referrer-lists.ts';

/** One rule with what belongs to it in this process. */
export interface Target {
  readonly rule: ReplicationRule;
  readonly matcher: RuleMatcher;
  readonly client: TargetClient;
  /** Blobs that are sent at once. */
  readonly gate: SlotGate;
  readonly budget: RateBudget | undefined;
  /** Where a blob was seen or put at the target: it can be mounted from there. Oldest first out. */
  readonly places: Map<string, string>;
  /** Blobs and manifests on their way, by repository there and digest: two jobs that name one send it once. */
  readonly sending: SingleFlight<string, void>;
  readonly referrers: ReferrerLists;
  /** Set where the target is the registry behind an upstream: what was acknowledged here is owed to it. */
  readonly writeBack?: WriteBack;
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

/** Begins the name of the rule that an upstream of mode write-back is; names of other rules have no slash. */
const WRITE_BACK_PREFIX = 'write-back/';

/** The rule by whose name jobs bring pushes to the registry behind an upstream. */
export function writeBackRule(upstream: string): string {
  return `${WRITE_BACK_PREFIX}${upstream}`;
}

/** True for the name of such a rule. */
export function isWriteBackRule(rule: string): boolean {
  return rule.startsWith(WRITE_BACK_PREFIX);
}

/**
 * The replication rules of the cluster document by name, and the registries behind upstreams of mode write-back.
 * @throws {CodedError} `CONFIG_INVALID` that names the key
 */
export function openTargets(deps: TargetsDeps): Map<string, Target> {
  const { document, upstreams } = deps.cluster;
  const targets = document.replication.map((rule, index) => openTarget(deps, rule, `replication.${index}`));
  for (const upstream of upstreams) {
    const writeBack = writeBackOf(upstream);
    if (writeBack === undefined) continue;
    const rule = ruleOf(upstream, writeBack, deps.credentials[upstream.name] !== undefined);
    targets.push({ ...openTarget(deps, rule, `upstreams: ${upstream.name}`), writeBack });
  }
  return new Map(targets.map((target) => [target.rule.name, target]));
}

/** All of an upstream, under the same names, with its own account. */
function ruleOf(upstream: ClusterUpstream, writeBack: WriteBack, hasAccount: boolean): ReplicationRule {
  const { name, url = '', insecure, ca, proxy } = upstream;
  const { 'max-parallel': parallel, rate, retry, deletes } = writeBack;
  return {
    name: writeBackRule(name),
    from: name,
    repositories: ['**'],
    to: {
      url,
      insecure,
      ca,
      proxy,
      'redirect-hosts': upstream['redirect-hosts'],
      'realm-hosts': upstream['realm-hosts'],
    },
    rewrite: {},
    credentials: hasAccount ? name : undefined,
    'max-parallel': parallel,
    rate,
    delete: deletes,
    referrers: { depth: 0, max: 0 },
    retry,
  };
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
    gate: new SlotGate({ slots: rule['max-parallel'], queueLimit: QUEUE_LIMIT, waitMs: TARGET_QUEUE_MS }),
    budget: rule.rate === undefined ? undefined : new RateBudget(rule.rate),
    places: new LatestMap(MAX_PLACES),
    sending: new SingleFlight(),
    referrers: new ReferrerLists({ ...deps, client }),
  };
}
