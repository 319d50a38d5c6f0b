SUMMARY = "The tool of those who sign packages for lineside and roll them out"
DESCRIPTION = "Keeps a repository of signed model packages: keys and roles, packages with their gate, \
    rings, and what expires. No device needs it; most will want lineside-fleet-native."

require lineside.inc

CARGO_BUILD_FLAGS += "--features fleet"

do_install() {
    install -D -m 0755 ${B}/target/${CARGO_TARGET_SUBDIR}/lineside-fleet ${D}${bindir}/lineside-fleet
}

BBCLASSEXTEND = "native nativesdk"
