SUMMARY = "An example: a read-only system with lineside on it"
DESCRIPTION = "A root that nothing writes to, and a partition for what is to last. How systems are swapped, \
    by RAUC, Mender or another, is for who builds the product: see the layer's README."
SECTION = "applications"
LICENSE = "MIT"

inherit core-image features_check

REQUIRED_DISTRO_FEATURES = "systemd"

IMAGE_FEATURES += "read-only-rootfs"
IMAGE_INSTALL = "packagegroup-core-boot packagegroup-lineside"

# Used where the board's layer has no layout of its own. One that it has needs a partition with the label
# LINESIDE_DATA_LABEL, too.
# By its path: scarthgap looks for names in folders that newer releases refuse. It spells a plugin another
# way, too.
WKS_FILE ?= "${THISDIR}/../../files/wic/lineside-ab.wks.in"
LINESIDE_BOOT_PLUGIN = "${@bb.utils.contains('LAYERSERIES_CORENAMES', 'scarthgap', 'bootimg-partition', 'bootimg_partition', d)}"
IMAGE_FSTYPES += "${@'wic' if d.getVar('WKS_FILE').endswith('/lineside-ab.wks.in') else ''}"
IMAGE_BOOT_FILES ?= "${KERNEL_IMAGETYPE}"
LINESIDE_ROOT_SIZE ?= "1G"
LINESIDE_DATA_SIZE ?= "2G"
WICVARS:append = " LINESIDE_DATA_LABEL LINESIDE_DATA_SIZE LINESIDE_ROOT_SIZE"

# Which broker it connects to, where no configuration of the site's was installed.
LINESIDE_BROKER_URL ?= "mqtt://broker.local:1883"

lineside_configuration() {
    if [ ! -e ${IMAGE_ROOTFS}${sysconfdir}/lineside/config.toml ]; then
        printf '[broker]\nurl = "%s"\n' '${LINESIDE_BROKER_URL}' > ${IMAGE_ROOTFS}${sysconfdir}/lineside/config.toml
    fi
}

# The name of a machine is everybody's who runs this image; with this one a board is called by its number.
lineside_host_name() {
    if [ "$(cat ${IMAGE_ROOTFS}${sysconfdir}/hostname)" = "${MACHINE}" ]; then
        echo appliance > ${IMAGE_ROOTFS}${sysconfdir}/hostname
    fi
}
ROOTFS_POSTPROCESS_COMMAND += "lineside_configuration lineside_host_name"
