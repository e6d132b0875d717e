// Names threads for debuggers and `top`, by the one way that needs no GNU extension.

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// Gives the calling thread a name, cut to 15 bytes; where that is not possible it has none.
func nameThisThread(_ name: String) {
    let descriptor = open("/proc/thread-self/comm", O_WRONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return }
    var text = String(name.prefix(15))
    text.withUTF8 { bytes in _ = write(descriptor, bytes.baseAddress, bytes.count) }
    close(descriptor)
}
