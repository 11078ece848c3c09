//! Echo servers: backends that tell what reached them.
