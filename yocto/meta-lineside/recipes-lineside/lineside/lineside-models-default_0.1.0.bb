SUMMARY = "The model package that comes with lineside"
DESCRIPTION = "factory-triage: a small model for messages of machines, with its tasks, grammars, \
    calibration and gate suite."
SECTION = "applications"
CVE_PRODUCT = "lineside"
LICENSE = "MIT | Apache-2.0"
LIC_FILES_CHKSUM = "\
    file://models/factory-triage/manifest.toml;beginline=6;endline=6;md5=86b31c7756a1a7962f28b62856ed4f05 \
    file://${COMMON_LICENSE_DIR}/MIT;md5=0835ade698e0bcf8506ecda2f7b4f302 \
    file://${COMMON_LICENSE_DIR}/Apache-2.0;md5=89aea4e17d99a7cacdbeed46a0096b10 \
"

FILESEXTRAPATHS:prepend := "${LINESIDE_SOURCE}:"
SRC_URI = "file://models/factory-triage;subdir=${BP}"

LINESIDE_UNPACKED = "${@d.getVar('UNPACKDIR') or d.getVar('WORKDIR')}"
S = "${LINESIDE_UNPACKED}/${BP}"

inherit allarch

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -d ${D}${datadir}/lineside/models
    cp -r --no-preserve=ownership ${S}/models/factory-triage ${D}${datadir}/lineside/models/
    # Curves for people who read the repository.
    rm -rf ${D}${datadir}/lineside/models/factory-triage/figures
}

FILES:${PN} = "${datadir}/lineside/models"
