// Ports on the loopback interface for nodes that come and go.

import Glibc

/// Finds ports to listen on.
enum LoopbackPorts {
    /// Ports that were free a moment ago, below those that the system gives to outgoing connections: one
    /// of these could have the port of a node that is down, and the node could not come back.
    static func free(_ count: Int) throws(BenchFileError) -> [Int] {
        var sockets: [Int32] = []
        defer { for socket in sockets { close(socket) } }
        var ports: [Int] = []
        var attempts = 0
        while ports.count < count {
            attempts += 1
            guard attempts < 1000 else { throw .last("no node was started: no free port") }
            let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            guard descriptor >= 0 else { throw .last("no node was started: no socket") }
            sockets.append(descriptor)
            let port = Int.random(in: 15_000..<32_000)
            if bind(descriptor, to: port) { ports.append(port) }
        }
        return ports
    }

    private static func bind(_ descriptor: Int32, to port: Int) -> Bool {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        address.sin_port = in_port_t(port).bigEndian
        let size = socklen_t(MemoryLayout<sockaddr_in>.size)
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                Glibc.bind(descriptor, address, size) == 0
            }
        }
    }
}
