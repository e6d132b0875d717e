// A port in front of a node that can lose an answer: what the client sent has arrived, and the connection
// is gone before it learns of it.

import Foundation

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

final class CuttingProxy: @unchecked Sendable {
    // Safety: what changes is behind `lock`.
    struct Failure: Error {}
    private enum Plan {
        case none
        /// The next thing that a client sends is the last that is answered to nobody.
        case armed
        /// It was sent.
        case sent
    }
    let port: UInt16
    private let target: UInt16
    private let listener: Int32
    private let lock = NSLock()
    private var plan = Plan.none
    private var cut = 0

    /// Answers that were lost.
    var cuts: Int { lock.withLock { cut } }

    /// Loses the answer to what a client sends next.
    func arm() { lock.withLock { plan = .armed } }

    init(to target: UInt16) throws {
        self.target = target
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = Self.address(0)
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isListening = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { name in
                bind(descriptor, name, length) == 0 && listen(descriptor, 16) == 0
                    && getsockname(descriptor, name, &length) == 0
            }
        }
        guard isListening else { throw Failure() }
        port = UInt16(bigEndian: address.sin_port)
        listener = descriptor
        Thread.detachNewThread { [self] in accept() }
    }

    /// No more connections are taken.
    func close() { shutdown(listener, Int32(SHUT_RDWR)) }

    private static func address(_ port: UInt16) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = in_addr_t(UInt32(0x7f00_0001).bigEndian)
        return address
    }

    private func accept() {
        while true {
            let client = Glibc.accept(listener, nil, nil)
            guard client >= 0 else { return }
            let node = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            var address = Self.address(target)
            let isConnected = withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    connect(node, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
                }
            }
            guard isConnected else {
                _ = Glibc.close(client)
                continue
            }
            Thread.detachNewThread { [self] in pump(client, node, isFromClient: true) }
            Thread.detachNewThread { [self] in pump(node, client, isFromClient: false) }
        }
    }

    private func pump(_ from: Int32, _ to: Int32, isFromClient: Bool) {
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = read(from, &buffer, buffer.count)
            guard count > 0 else { break }
            let isLost = lock.withLock {
                switch (plan, isFromClient) {
                case (.armed, true):
                    plan = .sent
                    return false
                case (.sent, false):
                    plan = .none
                    cut += 1
                    return true
                default: return false
                }
            }
            guard !isLost, send(to, buffer, count, Int32(MSG_NOSIGNAL)) == count else {
                break
            }
        }
        shutdown(from, Int32(SHUT_RDWR))
        shutdown(to, Int32(SHUT_RDWR))
    }
}
