/** How members speak with each other: the policy `encryption` of the cluster document, each step after the one before it. */
export const ENCRYPTIONS = ['off', 'accept', 'on', 'require'] as const;
/** A step of the policy `encryption` of the cluster document, see {@link ENCRYPTIONS}. */
export type Encryption = (typeof ENCRYPTIONS)[number];
