import { z } from 'zod';
import { type Digest, isDigest } from '../digest.ts';

/** Schema of a digest in messages, configs and files: the forms that {@link isDigest} takes, branded, unchanged. */
export const DIGEST = z
  .string()
  .refine((text): text is Digest => isDigest(text), { message: 'is not a digest' });
