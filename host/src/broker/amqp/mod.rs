//! stub
use super::*;
pub struct Amqp(std::convert::Infallible);
pub enum Subscription {}
#[derive(Debug)] pub enum Answer {}
impl Answer { pub fn ack(self){ match self {} } }
impl Subscription { pub async fn next(&mut self)->Next{ match *self {} } pub async fn cancel(&mut self){ match *self {} } pub async fn close(self)->Result<(),Error>{ match self {} } }
impl Amqp { pub fn open(_:&str,_:Arc<Topology>)->Result<Arc<Self>,Error>{Err(Error::Unusable(String::new()))}
 pub fn status(&self)->watch::Receiver<Status>{ match self.0 {} } pub async fn publish(&self,_:Vec<Publication>)->Result<Receipt,Error>{ match self.0 {} }
 pub async fn subscribe(&self,_:&QueueName,_:u16,_:&str)->Result<Subscription,Error>{ match self.0 {} } pub async fn close(&self,_:Duration){ match self.0 {} } }
