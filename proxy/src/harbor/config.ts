import { pathText } from '@sepia/base/config/units';
import { patterns } from '@sepia/base/names/pattern';
import { z } from 'zod';
import { SCOPES } from './core/messages.ts';

const SCOPE = z.enum(SCOPES);
const SCOPE_TEXT =
  'single_seed_peer: one owning origin of each blob; all_seed_peers: all its owners; all_peers: the nodes too.';

const DRIVER_AUTH = z
  .strictObject({
    mode: z
      .enum(['off', 'none', 'basic', 'bearer', 'custom'])
      .default('off')
      .describe(
        "off: no drivers, 404. Else the instance's auth mode in Harbor (NONE, BASIC, OAUTH, CUSTOM); none: whoever reaches this proxy may preheat, private images too.",
      ),
    username: z.string().min(1).optional().describe('User, for basic.'),
    header: z
      .string()
      .regex(/^[A-Za-z0-9-]{1,64}$/, 'is not a header name')
      .optional()
      .describe('Header name, for custom.'),
    'secret-file': pathText()
      .optional()
      .describe(
        'File with the password, token or header value, relative to this file; read again when it changes.',
      ),
  })
  .superRefine(({ mode, username, header, 'secret-file': file }, ctx) => {
    const needs = (key: string): void =>
      ctx.addIssue({ code: 'custom', path: [key], message: `is missing; mode ${mode} needs it` });
    if (mode === 'off' || mode === 'none') return;
    if (file === undefined) needs('secret-file');
    if (mode === 'basic' && username === undefined) needs('username');
    if (mode === 'custom' && header === undefined) needs('header');
  })
  .prefault({});

const KRAKEN = z
  .strictObject({
    answer: z
      .enum(['stored', 'accepted'])
      .default('stored')
      .describe('2xx when the origins have every blob, or at once: Harbor then never hears of a failure.'),
    scope: SCOPE.default('single_seed_peer').describe(SCOPE_TEXT),
  })
  .prefault({});

const WEBHOOK = z
  .strictObject({
    auth: z
      .enum(['off', 'none', 'header'])
      .default('off')
      .describe("off: refused. header: Authorization must be the policy's auth header, to the letter."),
    'authorization-file': pathText()
      .optional()
      .describe('File with that header value, relative to this file; read again when it changes.'),
    prefetch: z
      .array(
        z.strictObject({
          repositories: patterns().describe('Doublestar globs of repositories, e.g. team/**.'),
          scope: SCOPE.default('single_seed_peer').describe(SCOPE_TEXT),
        }),
      )
      .max(1_000)
      .default([])
      .describe(
        'What pushed images are brought along for; the first that matches counts, none: only the tag moves.',
      ),
  })
  .refine((one) => one.auth !== 'header' || one['authorization-file'] !== undefined, {
    message: 'is missing; auth header needs it',
    path: ['authorization-file'],
  })
  .prefault({});

/** `harbor` in the config of a proxy. */
export const HARBOR_CONFIG = z
  .strictObject({
    'driver-auth': DRIVER_AUTH.describe('How preheat drivers prove themselves.'),
    kraken: KRAKEN.describe('The Kraken driver.'),
    webhook: WEBHOOK.describe('Webhooks.'),
  })
  .prefault({});

export type HarborConfig = z.output<typeof HARBOR_CONFIG>;
