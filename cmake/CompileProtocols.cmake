# compile_protocols(SOURCES_VAR): every schema/NAME.x becomes NAME_rpc.h, with the types, and NAME_rpc.c, which encodes and
# decodes them (rpcgen(1)). Calls are made by hand: rpcgen's own have one timeout, and keep results in static memory.
function(compile_protocols sources_var)
    find_program(RPCGEN rpcgen REQUIRED)
    file(GLOB protocols CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/schema/*.x)
    set(directory ${CMAKE_BINARY_DIR}/generated)
    file(MAKE_DIRECTORY ${directory})
    set(sources)
    foreach(protocol IN LISTS protocols)
        get_filename_component(name ${protocol} NAME_WE)
        # rpcgen takes the name of the header from that of its input.
        add_custom_command(
            OUTPUT ${directory}/${name}_rpc.c ${directory}/${name}_rpc.h
            COMMAND ${CMAKE_COMMAND} -E copy ${protocol} ${name}_rpc.x
            COMMAND ${CMAKE_COMMAND} -E rm -f ${name}_rpc.c ${name}_rpc.h
            COMMAND ${RPCGEN} -C -h -o ${name}_rpc.h ${name}_rpc.x
            COMMAND ${RPCGEN} -C -c -o ${name}_rpc.c ${name}_rpc.x
            DEPENDS ${protocol}
            WORKING_DIRECTORY ${directory}
            COMMENT "Compiling schema/${name}.x"
            VERBATIM)
        list(APPEND sources ${directory}/${name}_rpc.c ${directory}/${name}_rpc.h)
        set_source_files_properties(${directory}/${name}_rpc.c PROPERTIES COMPILE_OPTIONS "-Wno-unused-variable")
    endforeach()
    set(${sources_var} ${sources} PARENT_SCOPE)
endfunction()
