# tests/test_NAME.c: a unit test, linked to scratch.c, sample.c and view_fixture.c. tests/mount_NAME.c: a test on a real mount,
# linked to every other tests/*.c.
# tests/NAME.sh: a unit test that drives the built binary, $COPPICE. tests/mount_NAME.sh: the same on a real mount.
function(coppice_test source label timeout)
    if(COPPICE_SANITIZE)
        math(EXPR timeout "${timeout} * 3")
    endif()
    get_filename_component(name ${source} NAME_WE)
    get_filename_component(extension ${source} EXT)
    if(extension STREQUAL ".c")
        add_executable(${name} ${source})
        set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
        target_link_libraries(${name} PRIVATE coppice-core PkgConfig::CMOCKA ${ARGN})
        add_test(NAME ${name} COMMAND ${name})
        if(TARGET coppice)
            add_dependencies(${name} coppice)
        endif()
    else()
        add_test(NAME ${name} COMMAND ${source})
    endif()
    set_tests_properties(${name} PROPERTIES LABELS ${label} TIMEOUT ${timeout}
        ENVIRONMENT COPPICE=${CMAKE_BINARY_DIR}/coppice)
endfunction()

file(GLOB unit_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/test_*.c ${CMAKE_SOURCE_DIR}/tests/*.sh)
list(FILTER unit_sources EXCLUDE REGEX "/mount_[^/]*$")
file(GLOB mount_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/mount_*.c ${CMAKE_SOURCE_DIR}/tests/mount_*.sh)
file(GLOB harness_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/*.c)
list(FILTER harness_sources EXCLUDE REGEX "/(test|mount)_[^/]*$")

add_library(coppice-scratch STATIC ${CMAKE_SOURCE_DIR}/tests/scratch.c ${CMAKE_SOURCE_DIR}/tests/sample.c
    ${CMAKE_SOURCE_DIR}/tests/view_fixture.c)
target_link_libraries(coppice-scratch PUBLIC coppice-core PkgConfig::CMOCKA)
foreach(source IN LISTS unit_sources)
    coppice_test(${source} unit 120 coppice-scratch)
endforeach()
# It unpacks and mounts some twenty disk images.
set_tests_properties(disk PROPERTIES TIMEOUT 180)

add_library(coppice-harness STATIC ${harness_sources})
target_link_libraries(coppice-harness PUBLIC coppice-core PkgConfig::CMOCKA)
foreach(source IN LISTS mount_sources)
    coppice_test(${source} mount 300 coppice-harness)
endforeach()
# Ends what it is preloaded into before the N-th step, which mount_snapaim counts up.
add_library(kill_at MODULE ${CMAKE_SOURCE_DIR}/tests/preload/kill_at.c)
# Sanitizers belong to the program that it is loaded into.
target_compile_options(kill_at PRIVATE -fno-sanitize=all)
target_link_options(kill_at PRIVATE -fno-sanitize=all)
target_link_libraries(kill_at PRIVATE ${CMAKE_DL_LIBS})
add_dependencies(mount_snapaim kill_at)
set_property(TEST mount_snapaim APPEND PROPERTY ENVIRONMENT COPPICE_KILL_AT_LIBRARY=$<TARGET_FILE:kill_at>)
# They hold the product to times, to memory or to what the kernel caches, which others beside them would need too, or drop.
set_tests_properties(mount_catalog mount_leak mount_replace mount_slow mount_snapshot mount_warm PROPERTIES RUN_SERIAL ON)

# What many threads do at once, for ThreadSanitizer: .ci/run has it look at these alone, as it sees nothing more in the others.
foreach(name test_commit test_fdcache test_view mount_io mount_kill mount_replace mount_slow)
    set_property(TEST ${name} APPEND PROPERTY LABELS concurrent)
endforeach()

# Virtual machines, in ctest's configuration `vm` alone: the machines' images take minutes to make, and boots are emulated.
# Status 77 is "skipped": some scenario could not be tried.
function(coppice_vm_test name timeout)
    add_test(NAME ${name} COMMAND ${CMAKE_SOURCE_DIR}/tests/vm/run ${ARGN} CONFIGURATIONS vm)
    set_tests_properties(${name} PROPERTIES LABELS vm TIMEOUT ${timeout} RUN_SERIAL ON SKIP_RETURN_CODE 77
        ENVIRONMENT COPPICE_VM_LOGS=${CMAKE_BINARY_DIR}/vm-logs)
endfunction()

# The shorter ones, each as the one before leaves the nodes: every boot that is saved is a minute.
coppice_vm_test(vm 2400 1 6 5)
coppice_vm_test(vm_more 4800 2 3 8 4)
coppice_vm_test(vm_arm64 5400 7)
# No machine, but it needs Debian's mirror and some minutes too.
add_test(NAME board COMMAND ${CMAKE_SOURCE_DIR}/tests/vm/board CONFIGURATIONS vm)
set_tests_properties(board PROPERTIES LABELS vm TIMEOUT 900 RUN_SERIAL ON ENVIRONMENT COPPICE=${CMAKE_BINARY_DIR}/coppice)

# tests/fuzz/fuzz_NAME.c: a fuzzer, which needs sanitizers to notice anything. With COPPICE_FUZZ and clang it is libFuzzer's;
# else driver.c runs the kept corpus and some changes of it. A copy of a file of src/ that a fuzzer includes comes before the library's.
if(COPPICE_FUZZ OR COPPICE_SANITIZE MATCHES address)
    file(GLOB fuzz_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/fuzz/fuzz_*.c)
    foreach(source IN LISTS fuzz_sources)
        get_filename_component(name ${source} NAME_WE)
        string(REPLACE fuzz_ "" corpus ${name})
        set(corpus ${CMAKE_SOURCE_DIR}/tests/fuzz/corpus/${corpus})
        add_executable(${name} ${source} ${CMAKE_SOURCE_DIR}/tests/fuzz/fuzz.c)
        set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
        target_link_libraries(${name} PRIVATE coppice-scratch)
        if(COPPICE_FUZZ)
            target_link_options(${name} PRIVATE -fsanitize=fuzzer)
            add_test(NAME ${name} COMMAND ${name} -runs=0 ${corpus})
        else()
            target_sources(${name} PRIVATE ${CMAKE_SOURCE_DIR}/tests/fuzz/driver.c)
            add_test(NAME ${name} COMMAND ${name} ${corpus})
        endif()
        set_tests_properties(${name} PROPERTIES LABELS unit TIMEOUT 120)
    endforeach()
    add_executable(fuzz_seeds EXCLUDE_FROM_ALL ${CMAKE_SOURCE_DIR}/tests/fuzz/seeds.c)
    set_target_properties(fuzz_seeds PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    target_link_libraries(fuzz_seeds PRIVATE coppice-scratch)
endif()
