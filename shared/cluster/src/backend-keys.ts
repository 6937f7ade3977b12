import { pathText, proxyUrl } from '@sepia/base/config/units';
import { z } from 'zod';

/** `max-connections` of whatever an origin opens connections to. */
export const MAX_CONNECTIONS = z
  .number()
  .int()
  .min(1)
  .max(1000)
  .default(32)
  .describe('Connections that one origin opens to it.');

const BUCKET = /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/;
/** Parts of a path that stores and proxies fold. */
const FOLDED = /(?:^|\/)\.{1,2}(?:\/|$)|\/\//;

const S3 = z
  .strictObject({
    bucket: z.string().regex(BUCKET, 'is not the name of a bucket').describe('The bucket; must exist.'),
    prefix: z
      .string()
      .max(512)
      .refine((text) => !text.startsWith('/') && !FOLDED.test(text), {
        message: 'begins with / or has a part that is empty, . or ..',
      })
      .default('')
      .describe('Begins the key of every blob, e.g. `sepia/`; one for each cluster that shares the bucket.'),
    endpoint: z
      .url({ protocol: /^https?$/, error: 'is not http(s)://host[:port]' })
      .optional()
      .describe('Address of a store that is not AWS, e.g. https://s3.example.com:9000.'),
    region: z
      .string()
      .regex(/^[a-z0-9-]{1,64}$/, 'is not a region')
      .default('us-east-1')
      .describe('Region that requests are signed for.'),
    'path-style': z
      .boolean()
      .optional()
      .describe('The bucket is part of the path, not of the host name; default: where endpoint is given.'),
    layout: z
      .enum(['sepia', 'registry'])
      .default('sepia')
      .describe(
        'sepia: PREFIXblobs/sha256/ab/HEX. registry: as a registry (Harbor too) keeps blobs in its own bucket; read only.',
      ),
    ca: pathText()
      .optional()
      .describe(
        'PEM file of certificates trusted for it, relative to this document; read again when it changes.',
      ),
    insecure: z.boolean().default(false).describe('Do not check its certificate.'),
    proxy: proxyUrl()
      .optional()
      .describe('HTTP proxy on the way to it, or direct; else as the environment says.'),
    'max-connections': MAX_CONNECTIONS,
  })
  .describe(
    'A bucket of an S3 store. Credentials are found by the chain of the AWS SDK: environment, shared files, role of the machine.',
  );

const FS = z
  .strictObject({
    path: z
      .string()
      .refine((path) => path.startsWith('/'), { message: 'is not an absolute path' })
      .describe('The folder, absolute, the same at every origin; must exist.'),
  })
  .describe('A folder of a file system that is mounted at every origin.');

/** `backend` of an upstream; docs are made from it. */
export const BACKEND = z
  .strictObject({
    s3: S3.optional(),
    fs: FS.optional(),
    'moved-from': z
      .string()
      .max(2_048)
      .optional()
      .describe(
        'The place of before, as the refusal names it, once all that it held was copied to this one, or this is the same under a new name. Without it another place is refused by origins that saw their blobs in the one of before.',
      ),
  })
  .refine(({ s3, fs }) => (s3 === undefined) !== (fs === undefined), {
    message: 'names none or both of s3 and fs; give one',
  });

/** Section `backend` of an upstream, defaults filled in. */
export type BackendConfig = z.infer<typeof BACKEND>;

/** Where a backend is, in words that are the same for the same place: `s3://BUCKET/PREFIX at HOST`, or a folder. */
export function placeOf({ s3, fs }: BackendConfig): string {
  if (s3 === undefined) return fs!.path;
  const at = s3.endpoint === undefined ? '' : ` at ${new URL(s3.endpoint).host}`;
  return `s3://${s3.bucket}/${s3.prefix}${at}`;
}

/** Refuses `layout: registry` where Sepia would write: such a bucket belongs to the registry that fills it. */
export function checkBackend(
  upstream: { readonly mode: string; readonly backend?: BackendConfig | undefined },
  ctx: z.RefinementCtx,
): void {
  if (upstream.mode !== 'none' || upstream.backend?.s3?.layout !== 'registry') return;
  ctx.addIssue({
    code: 'custom',
    path: ['backend', 's3', 'layout'],
    message: 'registry is read only, and mode none writes; use sepia',
  });
}
