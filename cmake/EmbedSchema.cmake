# embed_schema(SOURCES_VAR INCLUDE_DIR_VAR): every schema/NAME.sql becomes `const char schema_NAME[]` of "schema.h".
function(embed_schema sources_var include_dir_var)
    file(GLOB schemas CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/schema/*.sql)
    set(directory ${CMAKE_BINARY_DIR}/generated)
    set(writer ${CMAKE_SOURCE_DIR}/cmake/write_schema.cmake)
    # The list itself is an input: a schema that goes away must leave schema.h, too.
    file(GENERATE OUTPUT ${directory}/schemas.txt CONTENT "${schemas}\n")
    add_custom_command(
        OUTPUT ${directory}/schema.c ${directory}/schema.h
        COMMAND ${CMAKE_COMMAND} -DDIRECTORY=${directory} -P ${writer}
        DEPENDS ${schemas} ${writer} ${directory}/schemas.txt
        COMMENT "Embedding schema/*.sql"
        VERBATIM)
    set(${sources_var} ${directory}/schema.c ${directory}/schema.h PARENT_SCOPE)
    set(${include_dir_var} ${directory} PARENT_SCOPE)
endfunction()
