# CUDA, on machines that have it; on others this changes nothing.
LINESIDE_CUDA = "${@'cuda' if 'cuda' in d.getVar('MACHINEOVERRIDES').split(':') else ''}"

inherit_defer ${LINESIDE_CUDA}

PACKAGECONFIG:append:cuda = " cuda"

# Orin and newer.
LINESIDE_ARM_ARCH:tegra = "armv8.2-a+dotprod+fp16"

# What the build of llama.cpp links statically lies where CUDA was installed, and not in a library folder.
RUSTFLAGS:append:cuda = " -L native=${STAGING_DIR_HOST}/usr/local/cuda-${CUDA_VERSION}/${baselib} \
    -L native=${STAGING_DIR_HOST}/usr/local/cuda-${CUDA_VERSION}/${baselib}/stubs"

do_configure:append:cuda() {
    cat >> ${LINESIDE_TOOLCHAIN} <<EOF
set(CMAKE_CUDA_COMPILER ${OECMAKE_CUDA_COMPILER})
set(CMAKE_CUDA_ARCHITECTURES ${OECMAKE_CUDA_ARCHITECTURES})
set(CMAKE_CUDA_TOOLKIT_ROOT_DIR "${STAGING_DIR_NATIVE}/usr/local/cuda-${CUDA_VERSION}" CACHE PATH "" FORCE)
set(CMAKE_CUDA_TOOLKIT_TARGET_DIR "${STAGING_DIR_HOST}/usr/local/cuda-${CUDA_VERSION}" CACHE PATH "" FORCE)
EOF
}

do_install:append:cuda() {
    install -D -m 0644 ${S}/systemd/drop-ins/jetson.conf \
        ${D}${systemd_system_unitdir}/lineside.service.d/jetson.conf
}
