import { duration } from '@sepia/base/config/units';
import { patterns } from '@sepia/base/names/pattern';
import { z } from 'zod';
import { takesPushes, type UpstreamMode } from './write-back.ts';

/** Account names as an htpasswd file may hold them: no colon, no control characters. */
const ACCOUNT = /^[A-Za-z0-9][A-Za-z0-9._@$+-]{0,127}$/;
const WHO = z
  .string()
  .refine((who) => who === '*' || who === 'anonymous' || ACCOUNT.test(who.replace(/^group:/, '')), {
    message: 'is not an account, group:NAME, * (every account) or anonymous',
  });
const RULE = z.strictObject({
  who: z
    .array(WHO)
    .min(1)
    .describe('Accounts, group:NAME, * for every account, anonymous for those without one.'),
  upstream: z.string().optional().describe('Upstream that it is about; default: all with access accounts.'),
  repositories: patterns().describe('Doublestar globs of repositories, e.g. team/**.'),
  actions: z
    .array(z.enum(['read', 'write', 'delete']))
    .describe('What is allowed; an empty list refuses all. write does not imply read.'),
});

/** The `accounts` section of the cluster document: who may do what, the same for every proxy and agent. */
export const ACCOUNTS_SCHEMA = z
  .strictObject({
    'anonymous-pull': z
      .boolean()
      .default(false)
      .describe('Everybody may read what no rule speaks of, without logging in.'),
    'token-life': duration({ least: '1m', most: '1h' }).prefault('5m').describe('How long a token is valid.'),
    groups: z
      .record(z.string(), z.array(z.string().regex(ACCOUNT, 'is not an account')))
      .default({})
      .describe('Accounts by group.'),
    rules: z
      .array(RULE)
      .max(10_000)
      .default([])
      .describe(
        'The first rule that fits account and repository decides; where none fits, nothing is allowed.',
      ),
  })
  .superRefine((accounts, ctx) => {
    for (const [index, rule] of accounts.rules.entries())
      for (const who of rule.who)
        if (who.startsWith('group:') && !Object.hasOwn(accounts.groups, who.slice('group:'.length)))
          ctx.addIssue({
            code: 'custom',
            path: ['rules', index, 'who'],
            message: `there is no group ${who.slice('group:'.length)} in groups`,
          });
  });

/** The `accounts` section of the cluster document, checked, with its defaults. */
export type AccountsDocument = z.infer<typeof ACCOUNTS_SCHEMA>;
/** Who may do what in which repositories; the first that fits account and repository decides. */
export type AccessRule = z.infer<typeof RULE>;

/**
 * Who decides who may read and push to the repositories of an upstream: the upstream, the accounts of the cluster, or nobody, so
 * that whoever reaches an agent or proxy may.
 */
export type AccessMode = 'upstream' | 'accounts' | 'cluster';

interface Accessible {
  readonly name: string;
  readonly mode: UpstreamMode;
  readonly access?: AccessMode | undefined;
}

/** The mode of an upstream, with the default where the document names none; `hasAccounts`: it has the section accounts. */
export function accessOf({ access, mode }: Omit<Accessible, 'name'>, hasAccounts: boolean): AccessMode {
  if (access !== undefined) return access;
  if (!takesPushes(mode)) return 'upstream';
  return hasAccounts ? 'accounts' : 'cluster';
}

interface Checked {
  readonly upstreams: readonly Accessible[];
  readonly accounts?: AccountsDocument | undefined;
}

/** Upstreams that accounts open need the section, and what the section says must be asked by somebody: else it only seems to guard. */
export function checkAccess({ upstreams, accounts }: Checked, ctx: z.RefinementCtx): void {
  const refuse = (path: (string | number)[], message: string): void =>
    ctx.addIssue({ code: 'custom', path, message });
  for (const [index, { access, mode }] of upstreams.entries()) {
    if (accounts !== undefined) continue;
    if (access === 'accounts')
      refuse(['upstreams', index, 'access'], 'accounts needs the section accounts in this document');
    if (access === undefined && mode === 'write-back')
      refuse(
        ['upstreams', index, 'access'],
        'in mode write-back without accounts whoever reaches a member reads all that the own credentials open, and pushes: configure accounts, or write access: cluster if that is meant',
      );
  }
  if (accounts === undefined) return;
  const asking = new Set(
    upstreams.filter((one) => accessOf(one, true) === 'accounts').map(({ name }) => name),
  );
  if (asking.size === 0)
    refuse(
      ['accounts'],
      'no upstream has access accounts, so no rule is ever asked: write access: accounts at those that the rules are for',
    );
  for (const [index, { upstream }] of accounts.rules.entries()) {
    const found = upstreams.find(({ name }) => name === upstream);
    const path = ['accounts', 'rules', index, 'upstream'];
    if (upstream === undefined || asking.has(upstream)) continue;
    if (found === undefined) refuse(path, `there is no upstream ${upstream}`);
    else
      refuse(
        path,
        `${upstream} has access ${accessOf(found, true)}, so this rule is never asked: write access: accounts there`,
      );
  }
}
