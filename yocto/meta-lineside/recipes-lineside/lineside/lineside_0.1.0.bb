SUMMARY = "Inference appliance for the factory line"
DESCRIPTION = "Requests come over MQTT and are durable before they are acknowledged; a local model \
    answers them within the limits of heat and memory of the board; nothing is lost without a network or \
    power, and models are swapped over the air, signed, gated and reversible."

require lineside.inc

SRC_URI += "\
    file://systemd;subdir=${BP} \
    file://lineside-commit-ready.service \
    file://var-lib-lineside.mount \
"

inherit cargo-update-recipe-crates features_check systemd useradd

REQUIRED_DISTRO_FEATURES = "systemd"

# A board has a broker elsewhere. With this, one that lets everybody in serves on the loopback.
PACKAGECONFIG ??= ""
PACKAGECONFIG[embedded-broker] = "--features embedded-broker"
# Needs a compiler and libraries that come with the board's layer: see dynamic-layers.
PACKAGECONFIG[cuda] = "--features cuda"

do_install:append() {
    install -d ${D}${systemd_system_unitdir}
    install -m 0644 ${S}/systemd/lineside.service ${S}/systemd/lineside-provision.service \
        ${S}/systemd/lineside-enrol.service ${S}/systemd/lineside-enrol.timer \
        ${LINESIDE_UNPACKED}/lineside-commit-ready.service ${D}${systemd_system_unitdir}

    sed -e 's#@LABEL@#${LINESIDE_DATA_LABEL}#' ${LINESIDE_UNPACKED}/var-lib-lineside.mount \
        > ${D}${systemd_system_unitdir}/var-lib-lineside.mount
    chmod 0644 ${D}${systemd_system_unitdir}/var-lib-lineside.mount

    # The technicians' port; an image that has none opens no console, and the drop-in opens nothing.
    install -D -m 0644 ${S}/systemd/drop-ins/serial.conf \
        ${D}${systemd_system_unitdir}/lineside.service.d/serial.conf

    install -D -m 0644 ${S}/systemd/sysusers.conf ${D}${nonarch_libdir}/sysusers.d/lineside.conf
    install -D -m 0644 ${S}/systemd/tmpfiles.conf ${D}${nonarch_libdir}/tmpfiles.d/lineside.conf
    install -D -m 0644 ${S}/systemd/99-lineside.rules ${D}${nonarch_base_libdir}/udev/rules.d/99-lineside.rules

    # On a read-only root nobody can make them later.
    install -d -m 0755 ${D}${sysconfdir}/lineside/conf.d
    install -d -m 0700 ${D}${sysconfdir}/credstore ${D}${sysconfdir}/credstore.encrypted
    install -d -m 0700 -o lineside -g lineside ${D}${localstatedir}/lib/lineside
}

PACKAGE_BEFORE_PN = "${PN}-commit-ready ${PN}-data ${PN}-serial"

FILES:${PN}-commit-ready = "${systemd_system_unitdir}/lineside-commit-ready.service"
FILES:${PN}-data = "${systemd_system_unitdir}/var-lib-lineside.mount"
FILES:${PN}-serial = "${systemd_system_unitdir}/lineside.service.d/serial.conf"
FILES:${PN} += "\
    ${nonarch_base_libdir}/udev \
    ${nonarch_libdir}/sysusers.d \
    ${nonarch_libdir}/tmpfiles.d \
    ${systemd_system_unitdir} \
"

SUMMARY:${PN}-commit-ready = "Keeps boot-complete.target back until lineside serves"
SUMMARY:${PN}-data = "The state of lineside on a partition of its own"
SUMMARY:${PN}-serial = "The serial ports of the board for the technicians' console of lineside"

SYSTEMD_PACKAGES = "${PN} ${PN}-commit-ready ${PN}-data"
SYSTEMD_SERVICE:${PN} = "lineside.service lineside-provision.service lineside-enrol.timer"
SYSTEMD_SERVICE:${PN}-commit-ready = "lineside-commit-ready.service"
SYSTEMD_SERVICE:${PN}-data = "var-lib-lineside.mount"

# Also by the image, and not only by systemd-sysusers: on a read-only root that cannot write.
USERADD_PACKAGES = "${PN}"
GROUPADD_PARAM:${PN} = "--system --gid ${LINESIDE_UID} lineside; --system render"
USERADD_PARAM:${PN} = "--system --uid ${LINESIDE_UID} --gid lineside --groups dialout,video,render \
    --home-dir ${localstatedir}/lib/lineside --no-create-home --shell /bin/false lineside"

RDEPENDS:${PN}-commit-ready = "${PN}"
RDEPENDS:${PN}-serial = "${PN}"
RRECOMMENDS:${PN} = "ca-certificates lineside-models-default"
