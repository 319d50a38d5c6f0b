"""A board in QEMU."""
